// What the node agent knows of a pod and of its namespace, whatever told it: Kubernetes, the registry of this machine, or
// a container engine. Values; a change is a new value.

export interface AgentPod {
  /** Kubernetes's pod UID, or another text that is never used twice; at most 253 bytes. ZDS goes by it. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly hostNetwork: boolean;
  /** Canonical text, IPv4-mapped forms unmapped; empty until the pod has its network. */
  readonly ips: readonly string[];
  readonly phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  /** Where its network namespace is, if whoever told of the pod knows; otherwise it is looked for in procfs. */
  readonly netnsPath: string | undefined;
}

export interface PodNamespace {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of those, only what the agent reads. Absent: none. */
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

export function podName(pod: { readonly namespace: string; readonly name: string }): string {
  return `${pod.namespace}/${pod.name}`;
}
