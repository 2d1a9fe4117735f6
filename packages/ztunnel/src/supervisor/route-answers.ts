// Answers a worker's questions about routes from the mesh. Always gives an answer, since a connection waits for it;
// fails closed: what cannot be decided is a denial.
import {
  formatSocketAddress,
  type InboundRoute,
  type MeshView,
  type OutboundRoute,
  parseIp,
  resolveInbound,
  resolveOutbound,
  type SocketAddress,
} from '@ambit/mesh';
import { errorText } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { FromWorker, PodInfo } from '../worker-protocol.ts';

export interface RouteOptions {
  /** The configured network of this node. */
  readonly network: string;
  readonly illegalPorts: ReadonlySet<number>;
  /** Whether applications should see the client's address. */
  readonly preserveSource: boolean;
  readonly localhostAppTunnel: boolean;
}

export interface RouteDeps {
  readonly view: MeshView;
  readonly log: Logger;
}

type OutboundQuestion = Extract<FromWorker, { type: 'needOutboundRoute' }>;
type InboundQuestion = Extract<FromWorker, { type: 'needInboundRoute' }>;

/** `pod` undefined: it was removed while the question was under way. */
export function answerOutbound(
  deps: RouteDeps,
  options: RouteOptions,
  pod: PodInfo | undefined,
  { input }: OutboundQuestion,
): OutboundRoute {
  if (pod === undefined) return { kind: 'deny', reason: 'drain.pod_removed', error: POD_REMOVED, steps: [] };
  try {
    const { network, illegalPorts } = options;
    return resolveOutbound(deps.view, { ...input, pod, self: deps.view.workloadForPod(pod), network, illegalPorts });
  } catch (thrown) {
    const error = report(deps.log, pod, thrown);
    return { kind: 'deny', reason: 'route.unknown_destination', error, steps: [] };
  }
}

/** The control plane did not say in time what a destination is: passing in plain text could be a downgrade. */
export function denyUnsure(destination: SocketAddress): OutboundRoute {
  const error = `the control plane did not say in time what ${formatSocketAddress(destination)} is`;
  return { kind: 'deny', reason: 'route.unknown_destination', error, steps: [] };
}

export function answerInbound(
  deps: RouteDeps,
  options: RouteOptions,
  pod: PodInfo | undefined,
  { connectedIp, connectedPort, authority }: InboundQuestion,
): InboundRoute {
  if (pod === undefined) return denyInbound('drain.pod_removed', POD_REMOVED);
  const ip = parseIp(connectedIp);
  if (ip === undefined) return denyInbound('hbone.ip_mismatch', `not an address: ${connectedIp}`);
  try {
    const self = deps.view.workloadForPod(pod);
    return resolveInbound(deps.view, { ...options, pod, self, connected: { ip, port: connectedPort }, authority });
  } catch (thrown) {
    return denyInbound('route.unknown_destination', report(deps.log, pod, thrown));
  }
}

const POD_REMOVED = 'connection closed due to connection drain';

function denyInbound(reason: Extract<InboundRoute, { kind: 'deny' }>['reason'], error: string): InboundRoute {
  return { kind: 'deny', status: 503, reason, error, steps: [] };
}

/** A throw out of pure routing is a bug of ours: it must be seen, and must not take the node down. */
function report(log: Logger, pod: PodInfo, thrown: unknown): string {
  const text = errorText(thrown);
  log.error('Routing failed on a bug, the connection is refused', [
    ['pod', `${pod.namespace}/${pod.name}`],
    ['error', text],
  ]);
  return text;
}
