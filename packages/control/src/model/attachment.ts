// Which waypoint an object uses: its own label, else its namespace's; whether that waypoint is there, takes such traffic
// and lets the namespace in. An object that names a waypoint it cannot have gets none, not the namespace's.
import type { Diagnostic } from '../diagnostic.ts';
import type { Labels, ObjectRef } from '../objects/types.ts';
import type { Surroundings } from './surroundings.ts';
import { allowsNamespace, type Waypoint } from './waypoint.ts';
import { ANNOTATION, LABEL } from './well-known.ts';

export interface WaypointUser {
  readonly ref: ObjectRef;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly traffic: 'service' | 'workload';
}

export interface Attachment {
  readonly waypoint: Waypoint | undefined;
  readonly canary: { readonly waypoint: Waypoint; readonly weight: number } | undefined;
  readonly diagnostics: readonly Diagnostic[];
}

export interface WaypointName {
  readonly namespace: string;
  readonly name: string;
}

/** Services of gateways that the control plane itself runs: a waypoint before a waypoint would loop. */
const UNWAYPOINTED: ReadonlySet<string> = new Set(['istio.io-mesh-controller', 'istio.io-eastwest-controller']);

const NONE: Attachment = { waypoint: undefined, canary: undefined, diagnostics: [] };

/** What labels name: a waypoint, or none on purpose; undefined when they say nothing. */
export function namedWaypoint(labels: Labels, ownNamespace: string): WaypointName | 'none' | undefined {
  const name = labels[LABEL.useWaypoint];
  if (name === undefined) return undefined;
  return name === 'none' ? 'none' : { name, namespace: labels[LABEL.useWaypointNamespace] ?? ownNamespace };
}

export function namedCanary(labels: Labels, ownNamespace: string): WaypointName | undefined {
  const name = labels[LABEL.canary] ?? '';
  return name === '' || name === 'none'
    ? undefined
    : { name, namespace: labels[LABEL.canaryNamespace] ?? ownNamespace };
}

/** As `attachmentOf`, for Services and ServiceEntries: those of gateways have no waypoint. */
export function serviceAttachment(user: WaypointUser, around: Surroundings): Attachment {
  return UNWAYPOINTED.has(user.labels[LABEL.gatewayManaged] ?? '') ? NONE : attachmentOf(user, around);
}

export function attachmentOf(user: WaypointUser, around: Surroundings): Attachment {
  const { namespace } = user.ref;
  const own = namedWaypoint(user.labels, namespace);
  const inheritedFrom = own === undefined ? around.namespace(namespace)?.metadata : undefined;
  const named = own ?? namedWaypoint(inheritedFrom?.labels ?? {}, namespace);
  if (named === undefined || named === 'none') return NONE;
  const found = usable(named, user, around);
  if (!found.ok) {
    // A namespace's waypoint for services only is no mistake of its workloads.
    const isSilent = inheritedFrom !== undefined && user.traffic === 'workload';
    return isSilent ? NONE : { ...NONE, diagnostics: [found.diagnostic] };
  }
  if (user.traffic === 'workload') return { ...NONE, waypoint: found.waypoint };
  return { waypoint: found.waypoint, ...canaryOf(canaryWish(user, inheritedFrom), found.waypoint, user, around) };
}

/** The canary's labels and its weight: each the object's own, else the namespace's if the waypoint is inherited from it. */
function canaryWish(
  { labels, annotations }: WaypointUser,
  inheritedFrom: { readonly labels: Labels; readonly annotations: Labels } | undefined,
): { readonly labels: Labels; readonly weight: string } {
  const weight = annotations[ANNOTATION.canaryWeight] ?? inheritedFrom?.annotations[ANNOTATION.canaryWeight] ?? '0';
  const hasOwn = labels[LABEL.canary] !== undefined || inheritedFrom === undefined;
  return { labels: hasOwn ? labels : inheritedFrom.labels, weight };
}

type Usable =
  | { readonly ok: true; readonly waypoint: Waypoint }
  | { readonly ok: false; readonly diagnostic: Diagnostic };

function usable(named: WaypointName, user: WaypointUser, around: Surroundings): Usable {
  const { namespace } = user.ref;
  const text = `${named.namespace}/${named.name}`;
  const refuse = (code: string, message: string, remedy: string): Usable => ({
    ok: false,
    diagnostic: finding(user, code, 'error', LABEL.useWaypoint, message, remedy),
  });
  const waypoint = around.waypoint(named.namespace, named.name);
  if (waypoint === undefined) {
    return refuse(
      'waypoint.not_ready',
      `waypoint ${text} does not exist or has no address yet`,
      'create the Gateway, wait for its status.addresses, or remove the label',
    );
  }
  if (!allowsNamespace(waypoint, namespace, around.namespace(namespace))) {
    return refuse(
      'waypoint.attachment_denied',
      `waypoint ${text} does not take traffic of namespace ${namespace}`,
      'allow the namespace in allowedRoutes of the listener on port 15008',
    );
  }
  if (waypoint.trafficType !== 'all' && waypoint.trafficType !== user.traffic) {
    return refuse(
      'waypoint.unsupported_traffic_type',
      `waypoint ${text} is for traffic to "${waypoint.trafficType}", not to a ${user.traffic}`,
      `label the Gateway istio.io/waypoint-for=all or =${user.traffic}`,
    );
  }
  return { ok: true, waypoint };
}

/** The second waypoint, when a part of the traffic is to try another one. Any problem leaves all traffic to the first. */
function canaryOf(
  wish: { readonly labels: Labels; readonly weight: string },
  primary: Waypoint,
  user: WaypointUser,
  around: Surroundings,
): Pick<Attachment, 'canary' | 'diagnostics'> {
  const named = namedCanary(wish.labels, user.ref.namespace);
  if (named === undefined) return { canary: undefined, diagnostics: [] };
  const refuse = (code: string, message: string, remedy: string): Pick<Attachment, 'canary' | 'diagnostics'> => ({
    canary: undefined,
    diagnostics: [finding(user, code, 'warning', LABEL.canary, message, remedy)],
  });
  const text = `${named.namespace}/${named.name}`;
  if (named.name === primary.name && named.namespace === primary.namespace) {
    return refuse(
      'waypoint.canary_same',
      `canary ${text} is the waypoint itself`,
      'name another waypoint as the canary',
    );
  }
  const weight = /^[+-]?\d+$/.test(wish.weight) ? Number(wish.weight) : Number.NaN;
  if (!(weight >= 0 && weight <= 100)) {
    return refuse(
      'waypoint.canary_bad_weight',
      `canary weight "${wish.weight}" is not between 0 and 100`,
      `set annotation ${ANNOTATION.canaryWeight} to a whole number of percent`,
    );
  }
  const found = usable(named, user, around);
  if (!found.ok) {
    const { code, message, remedy } = found.diagnostic;
    return refuse(code.replace('waypoint.', 'waypoint.canary_'), message, remedy);
  }
  return { canary: { waypoint: found.waypoint, weight }, diagnostics: [] };
}

function finding(
  user: WaypointUser,
  code: string,
  severity: Diagnostic['severity'],
  label: string,
  message: string,
  remedy: string,
): Diagnostic {
  return { code, severity, message, remedy, ref: user.ref, path: `metadata.labels["${label}"]` };
}

const TRUE_TEXTS: ReadonlySet<string> = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);

/** Whether ingress must send through the waypoint: the service's label, else the namespace's. */
export function ingressUsesWaypoint(labels: Labels, namespaceLabels: Labels): boolean {
  return TRUE_TEXTS.has(labels[LABEL.ingressUseWaypoint] ?? namespaceLabels[LABEL.ingressUseWaypoint] ?? '');
}
