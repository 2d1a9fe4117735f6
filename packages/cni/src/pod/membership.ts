// Whether a pod belongs to the mesh, and why, as one sentence for people. Pure; the plugin and the agent decide by it, so
// that they cannot disagree. Istio's rule (section "should be in ambient" of its CNI agent): neither injection labels nor
// revisions play a part. Says nothing of whether the pod still runs.
import type { AgentPod, PodNamespace } from './agent-pod.ts';
import {
  DATAPLANE_MODE_LABEL,
  type EnablementSelector,
  type Labels,
  selectorMatches,
  selectorText,
} from './label-selector.ts';

export interface MembershipRules {
  readonly selectors: readonly EnablementSelector[];
  /** Namespaces whose pods are never touched, whatever their labels. */
  readonly excludedNamespaces: readonly string[];
}

export interface MembershipAnswer {
  readonly member: boolean;
  /** One line without a full stop, such as `namespace shop is labelled istio.io/dataplane-mode=ambient`. */
  readonly why: string;
}

export type MembershipPod = Pick<AgentPod, 'namespace' | 'labels' | 'annotations' | 'hostNetwork'>;

const SIDECAR_STATUS_ANNOTATION = 'sidecar.istio.io/status';
const ZTUNNEL_LABEL = 'app';

export function membership(pod: MembershipPod, namespace: PodNamespace, rules: MembershipRules): MembershipAnswer {
  if (pod.hostNetwork) return outsider("it uses the node's own network");
  if (rules.excludedNamespaces.includes(namespace.name)) return outsider(`namespace ${namespace.name} is excluded`);
  if (Object.hasOwn(pod.annotations, SIDECAR_STATUS_ANNOTATION)) {
    return outsider(`it has a sidecar (annotation ${SIDECAR_STATUS_ANNOTATION})`);
  }
  const chosen = rules.selectors.find(
    selector => selectorMatches(selector.pod, pod.labels) && selectorMatches(selector.namespace, namespace.labels),
  );
  if (chosen !== undefined) return { member: true, why: whyMember(chosen, namespace.name) };
  return outsider(whyNot(pod, namespace));
}

/**
 * Whether labels of a namespace take part in the decision at all: a change of this answer, and no other change of a
 * namespace's labels, can change the membership of its pods.
 */
export function namespaceEnables(selectors: readonly EnablementSelector[], labels: Labels): boolean {
  return selectors.some(({ namespace }) => namespace.length > 0 && selectorMatches(namespace, labels));
}

/** ztunnel's own pods carry everybody's traffic and are never led through themselves. */
export function isZtunnelPod(pod: Pick<AgentPod, 'namespace' | 'labels'>, systemNamespace: string): boolean {
  return pod.namespace === systemNamespace && pod.labels[ZTUNNEL_LABEL] === 'ztunnel';
}

function outsider(why: string): MembershipAnswer {
  return { member: false, why };
}

function whyMember({ pod, namespace }: EnablementSelector, name: string): string {
  if (pod.length === 0 && namespace.length === 0) return 'every pod is selected';
  if (namespace.length === 0) return `the pod is labelled ${selectorText(pod)}`;
  return `namespace ${name} is labelled ${selectorText(namespace)}`;
}

function whyNot(pod: MembershipPod, namespace: PodNamespace): string {
  const mode = pod.labels[DATAPLANE_MODE_LABEL];
  if (mode === 'none') return `its label ${DATAPLANE_MODE_LABEL}=none opts out`;
  if (mode !== undefined && mode !== 'ambient') return `its label ${DATAPLANE_MODE_LABEL}=${mode} is not ambient`;
  const ofNamespace = namespace.labels[DATAPLANE_MODE_LABEL];
  if (mode === undefined && ofNamespace === undefined) {
    return `neither it nor namespace ${namespace.name} is labelled ${DATAPLANE_MODE_LABEL}=ambient`;
  }
  return `no enablement selector matches it and namespace ${namespace.name}`;
}
