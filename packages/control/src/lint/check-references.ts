// References between objects that lead nowhere: namespaces, accounts, nodes, services, gateways. Kubernetes accepts them
// all, because the other object may come later.
import type { Diagnostic } from '../diagnostic.ts';
import { LABEL } from '../model/well-known.ts';
import type { KubeObject, Kind, TargetRef } from '../objects/types.ts';
import { finding, nameOf } from './check.ts';
import { accountOf, type Known } from './known.ts';

export function* checkReferences(known: Known): Iterable<Diagnostic> {
  yield* checkNamespaces(known);
  for (const object of known.everything()) {
    switch (object.kind) {
      case 'Pod':
      case 'WorkloadEntry':
        yield* checkAccount(object, known);
        break;
      case 'EndpointSlice':
        yield* checkService(object, known);
        break;
      case 'Namespace':
        yield* checkNamespaceWaypoint(object, known);
        break;
      case 'AuthorizationPolicy':
        yield* checkTargets(object, object.spec.targetRefs, 'spec.targetRefs', known);
        break;
      case 'HTTPRoute':
      case 'GRPCRoute':
        yield* checkTargets(object, object.spec.parentRefs, 'spec.parentRefs', known);
        break;
      default:
    }
  }
}

/** Once a namespace: a forgotten Namespace object is one mistake. */
function* checkNamespaces(known: Known): Iterable<Diagnostic> {
  const told = new Set<string>();
  for (const object of known.everything()) {
    const { namespace } = object.metadata;
    if (namespace === '' || told.has(namespace) || !known.lacks('Namespace', '', namespace)) continue;
    told.add(namespace);
    const message = `namespace ${namespace} is not among the namespaces here, so its labels are unknown`;
    yield finding(
      object,
      'warning',
      'config.no_such_namespace',
      'metadata.namespace',
      message,
      `add the Namespace ${namespace}, or correct the name`,
    );
  }
}

function* checkAccount(
  object: Extract<KubeObject, { kind: 'Pod' | 'WorkloadEntry' }>,
  known: Known,
): Iterable<Diagnostic> {
  const account = accountOf(object);
  const { namespace } = object.metadata;
  if (account !== '' && account !== 'default' && known.lacks('ServiceAccount', namespace, account)) {
    const path = object.kind === 'Pod' ? 'spec.serviceAccountName' : 'spec.serviceAccount';
    const message = `there is no ServiceAccount ${namespace}/${account}`;
    yield finding(object, 'warning', 'config.no_such_service_account', path, message, 'add it, or correct the name');
  }
  if (object.kind === 'Pod' && object.spec.nodeName !== '' && known.lacks('Node', '', object.spec.nodeName)) {
    const message = `there is no Node ${object.spec.nodeName}, so nobody knows in which zone the pod is`;
    yield finding(object, 'warning', 'config.no_such_node', 'spec.nodeName', message, 'add it, or correct the name');
  }
}

function* checkService(object: KubeObject, known: Known): Iterable<Diagnostic> {
  const { labels, namespace } = object.metadata;
  const service = labels[LABEL.serviceName];
  if (service === undefined) {
    const message = `without the label ${LABEL.serviceName} the endpoints belong to no service`;
    yield finding(object, 'warning', 'config.no_such_service', 'metadata.labels', message, 'add the label');
  } else if (known.lacks('Service', namespace, service)) {
    const path = `metadata.labels["${LABEL.serviceName}"]`;
    const message = `there is no Service ${namespace}/${service}, so the endpoints belong to nothing`;
    yield finding(object, 'warning', 'config.no_such_service', path, message, 'add it, or correct the name');
  }
}

/** Services and pods that use it are told by the translation; a namespace may have none yet. */
function* checkNamespaceWaypoint(object: KubeObject, known: Known): Iterable<Diagnostic> {
  const { labels, name } = object.metadata;
  const waypoint = labels[LABEL.useWaypoint];
  if (waypoint === undefined || waypoint === 'none') return;
  const namespace = labels[LABEL.useWaypointNamespace] ?? name;
  if (!known.lacks('Gateway', namespace, waypoint)) return;
  const path = `metadata.labels["${LABEL.useWaypoint}"]`;
  const message = `there is no Gateway ${namespace}/${waypoint}`;
  yield finding(object, 'warning', 'waypoint.no_such_gateway', path, message, 'add it, or correct the label');
}

const TARGETS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ['/Service', 'Service'],
  ['core/Service', 'Service'],
  ['gateway.networking.k8s.io/Gateway', 'Gateway'],
  ['gateway.networking.k8s.io/GatewayClass', 'GatewayClass'],
  ['networking.istio.io/ServiceEntry', 'ServiceEntry'],
]);

function* checkTargets(
  object: KubeObject,
  targets: readonly TargetRef[],
  path: string,
  known: Known,
): Iterable<Diagnostic> {
  for (const [index, target] of targets.entries()) {
    const kind = TARGETS.get(`${target.group}/${target.kind}`);
    if (kind === undefined) continue;
    const own = target.namespace === '' ? object.metadata.namespace : target.namespace;
    const namespace = kind === 'GatewayClass' ? '' : own;
    if (!known.lacks(kind, namespace, target.name)) continue;
    const name = namespace === '' ? target.name : `${namespace}/${target.name}`;
    const message = `there is no ${kind} ${name} that ${nameOf(object)} could be attached to`;
    const at = `${path}[${index}].name`;
    yield finding(object, 'warning', 'config.no_such_target', at, message, 'add it, or correct the name');
  }
}
