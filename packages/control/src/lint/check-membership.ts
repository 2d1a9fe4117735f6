// Who is in the mesh, and what labels say about it: pods that were to be captured and were not, modes nobody knows, and
// misspelt labels of Istio, which Kubernetes takes without a word.
import { nearestName } from '@ambit/mesh';
import type { Diagnostic } from '../diagnostic.ts';
import { LABEL } from '../model/well-known.ts';
import type { GatewayObject, KubeObject, PodObject } from '../objects/types.ts';
import { finding } from './check.ts';
import { DATAPLANE_MODE, isCaptured, type Known } from './known.ts';

const MODES = ['ambient', 'none'];
const TRAFFIC_TYPES = ['service', 'workload', 'all', 'none'];
/** Labels under Istio's prefixes that mean something; others near to one of these are taken for misspelt. */
const ISTIO_LABELS = [
  ...Object.values(LABEL).filter(name => name.includes('istio.io/')),
  DATAPLANE_MODE,
  'istio.io/gateway-name',
  'istio.io/tag',
  'istio.io/global',
  'service.istio.io/canonical-name',
  'service.istio.io/canonical-revision',
  'security.istio.io/tlsMode',
  'sidecar.istio.io/inject',
  'networking.istio.io/gatewayPort',
];

export function* checkMembership(known: Known): Iterable<Diagnostic> {
  for (const object of known.everything()) {
    yield* checkLabels(object);
    if (object.kind === 'Pod') yield* checkCapture(object, known);
    if (object.kind === 'Gateway') yield* checkListeners(object);
    if (object.kind === 'Namespace') yield* checkInjection(object);
  }
}

function* checkLabels(object: KubeObject): Iterable<Diagnostic> {
  for (const [name, value] of Object.entries(object.metadata.labels)) {
    const path = `metadata.labels["${name}"]`;
    if (name === DATAPLANE_MODE && !MODES.includes(value)) {
      yield badValue(object, name, value, MODES, 'config.bad_label');
    } else if (name === LABEL.waypointFor && !TRAFFIC_TYPES.includes(value)) {
      yield badValue(object, name, value, TRAFFIC_TYPES, 'waypoint.unknown_traffic_type');
    } else if (name.includes('istio.io/') && !ISTIO_LABELS.includes(name)) {
      const nearest = nearestName(name, ISTIO_LABELS);
      if (nearest === undefined) continue;
      const message = `label ${name} means nothing to the mesh`;
      yield finding(object, 'warning', 'config.unknown_label', path, message, `did you mean ${nearest}?`);
    }
  }
}

function badValue(object: KubeObject, name: string, value: string, known: readonly string[], code: string): Diagnostic {
  const nearest = nearestName(value, known);
  const message = `${name} is "${value}", which nothing understands`;
  const remedy = nearest === undefined ? `write ${known.join(', ')}` : `did you mean ${nearest}?`;
  return finding(object, 'error', code, `metadata.labels["${name}"]`, message, remedy);
}

function* checkCapture(pod: PodObject, known: Known): Iterable<Diagnostic> {
  const { phase, podIPs } = pod.status;
  if (phase !== 'Running' || podIPs.length === 0 || isCaptured(pod) || !known.isToBeCaptured(pod)) return;
  const message = `the pod is labelled for the mesh and not captured, so its traffic is plain text and it has no identity`;
  const remedy =
    'the node agent annotates a pod ambient.istio.io/redirection: enabled; see why it did not, or write it in a file of your own';
  yield finding(pod, 'warning', 'pod.not_captured', 'metadata', message, remedy);
}

function* checkInjection(namespace: KubeObject): Iterable<Diagnostic> {
  const { labels } = namespace.metadata;
  if (labels['istio-injection'] !== 'enabled' || labels[DATAPLANE_MODE] !== 'ambient') return;
  const message =
    'the namespace asks for sidecars and for ambient mode; pods with a sidecar are left out of ambient mode';
  const path = 'metadata.labels["istio-injection"]';
  yield finding(namespace, 'warning', 'config.sidecar_and_ambient', path, message, 'remove one of the two labels');
}

/** A waypoint that nobody can reach by HBONE. */
function* checkListeners(gateway: GatewayObject): Iterable<Diagnostic> {
  const { gatewayClassName, listeners } = gateway.spec;
  if (gatewayClassName !== 'istio-waypoint') return;
  if (listeners.some(({ port, protocol }) => port === 15_008 && protocol === 'HBONE')) return;
  const message = 'a waypoint without a listener for HBONE on port 15008 takes traffic of its own namespace only';
  const remedy = 'add the listener {name: mesh, port: 15008, protocol: HBONE}';
  yield finding(gateway, 'warning', 'waypoint.no_listener', 'spec.listeners', message, remedy);
}
