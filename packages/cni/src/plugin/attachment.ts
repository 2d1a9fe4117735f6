// What the runtime says of one sandbox in the environment: which container, which network namespace, which pod.
// Checked as CNI's own library checks it, since the values end up in paths and messages.
import { CniError } from '../errors.ts';

export type CniEnvironment = Readonly<Record<string, string | undefined>>;

export interface Attachment {
  readonly containerId: string;
  /** Path on the host, such as `/var/run/netns/cni-1234`. */
  readonly netnsPath: string;
  readonly interfaceName: string;
  /** Both empty when the sandbox is no pod of Kubernetes. */
  readonly podNamespace: string;
  readonly podName: string;
  /** Of the pod that is meant, if the runtime says it: containerd does, since 1.6. */
  readonly podUid: string | undefined;
}

const CONTAINER_ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
/** IFNAMSIZ less the final zero; neither `/`, `:` nor blanks, as the kernel wants it. */
const INTERFACE = /^[^/:\s]{1,15}$/;
/** RFC 1123 subdomain, as Kubernetes names pods; namespaces are narrower. */
const KUBERNETES_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const MAX_PATH = 4096;
const KNOWN_ARGS = new Set([
  'IgnoreUnknown',
  'K8S_POD_NAME',
  'K8S_POD_NAMESPACE',
  'K8S_POD_INFRA_CONTAINER_ID',
  'K8S_POD_UID',
]);

/** @throws CniError cni.argument */
export function readAttachment(env: CniEnvironment): Attachment {
  const args = readCniArgs(env['CNI_ARGS'] ?? '');
  const podName = args.get('K8S_POD_NAME') ?? '';
  const podNamespace = args.get('K8S_POD_NAMESPACE') ?? '';
  for (const name of [podName, podNamespace]) {
    if (name !== '' && !KUBERNETES_NAME.test(name)) throw refused('CNI_ARGS', 'names a pod that cannot exist');
  }
  const interfaceName = required(env, 'CNI_IFNAME', INTERFACE);
  if (interfaceName === '.' || interfaceName === '..') throw refused('CNI_IFNAME', 'is no name of an interface');
  const netnsPath = env['CNI_NETNS'] ?? '';
  if (!netnsPath.startsWith('/') || netnsPath.length > MAX_PATH) throw refused('CNI_NETNS', 'is no absolute path');
  const containerId = required(env, 'CNI_CONTAINERID', CONTAINER_ID);
  const podUid = args.get('K8S_POD_UID') || undefined;
  return { containerId, netnsPath, interfaceName, podNamespace, podName, podUid };
}

/** `K=V;K=V`. Keys that we do not know are refused unless `IgnoreUnknown` is set, as CNI's library does. */
function readCniArgs(text: string): ReadonlyMap<string, string> {
  const args = new Map<string, string>();
  if (text === '') return args;
  for (const pair of text.split(';')) {
    const at = pair.indexOf('=');
    if (at < 0) throw refused('CNI_ARGS', `has a part without "=": ${JSON.stringify(pair.slice(0, 40))}`);
    args.set(pair.slice(0, at), pair.slice(at + 1));
  }
  if (/^(1|true)$/i.test(args.get('IgnoreUnknown') ?? '')) return args;
  const unknown = [...args.keys()].find(key => !KNOWN_ARGS.has(key));
  if (unknown !== undefined) throw refused('CNI_ARGS', `has ${JSON.stringify(unknown)}, which is not known here`);
  return args;
}

function required(env: CniEnvironment, name: string, form: RegExp): string {
  const value = env[name] ?? '';
  if (form.test(value)) return value;
  throw refused(name, value === '' ? 'is missing' : 'has characters that it may not have');
}

function refused(variable: string, what: string): CniError {
  return new CniError('cni.argument', `environment variable ${variable} ${what}`, {
    next: 'this program is run by the container runtime, as the CNI specification says',
  });
}
