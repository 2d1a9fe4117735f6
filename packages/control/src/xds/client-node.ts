// Who a client says it is, and whether its proven identity lets it say so. Fails closed: what cannot be compared differs.
import { type DeltaRequest, GrpcError } from '@ambit/wire/grpc-server';
import type { Caller } from '../auth/caller.ts';

export interface ClientNode {
  readonly id: string;
  /** `ztunnel`, `waypoint`, ... */
  readonly type: string;
  readonly name: string;
  readonly namespace: string;
  /** Empty when the client did not say. */
  readonly serviceAccount: string;
  /** The Kubernetes node; empty when the client did not say. */
  readonly nodeName: string;
  readonly clusterId: string;
  readonly version: string;
}

const MAX_ID_CHARS = 1_024;

/**
 * Reads the node of a stream's first request: id `type~ip~name.namespace~domain`, and metadata that overrides it.
 * @throws GrpcError invalid_argument
 */
export function readClientNode(node: DeltaRequest['node']): ClientNode {
  const id = node?.id ?? '';
  if (id === '') throw new GrpcError('invalid_argument', 'the first request has no node id');
  const [type, ip, fullName, domain, ...rest] = id.split('~');
  if (!type || ip === undefined || fullName === undefined || domain === undefined || rest.length > 0) {
    throw new GrpcError('invalid_argument', 'the node id is not type~ip~name.namespace~domain');
  }
  if (id.length > MAX_ID_CHARS) throw new GrpcError('invalid_argument', 'the node id is too long');
  const metadata = (key: string) => {
    const value = node?.metadata?.[key];
    return typeof value === 'string' ? value.slice(0, MAX_ID_CHARS) : '';
  };
  const dot = fullName.lastIndexOf('.');
  return {
    id,
    type,
    name: metadata('NAME') || (dot < 0 ? fullName : fullName.slice(0, dot)),
    namespace: metadata('NAMESPACE') || (dot < 0 ? '' : fullName.slice(dot + 1)),
    serviceAccount: metadata('SERVICE_ACCOUNT'),
    nodeName: metadata('NODE_NAME'),
    clusterId: metadata('CLUSTER_ID'),
    version: metadata('ISTIO_VERSION'),
  };
}

/**
 * As upstream's PILOT_ENABLE_XDS_IDENTITY_CHECK: a caller speaks for its own namespace and account only. Beyond it, a
 * proof that is bound to a node speaks for that node only. Callers from loopback are not checked.
 * @throws GrpcError permission_denied
 */
export function checkIdentity(caller: Caller, node: ClientNode): void {
  if (caller.via === 'loopback') return;
  const { namespace, serviceAccount } = caller.identity;
  if (node.namespace !== namespace) {
    throw new GrpcError('permission_denied', `identity of namespace ${namespace} used for ${node.namespace || 'none'}`);
  }
  if (node.serviceAccount !== '' && node.serviceAccount !== serviceAccount) {
    throw new GrpcError('permission_denied', `identity of ${serviceAccount} used for ${node.serviceAccount}`);
  }
  if (caller.node !== undefined && node.nodeName !== '' && node.nodeName !== caller.node) {
    throw new GrpcError('permission_denied', `a proof bound to node ${caller.node} used for ${node.nodeName}`);
  }
}
