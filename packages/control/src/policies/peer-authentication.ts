// PeerAuthentication -> policies that refuse plain text, as istiod's ambient mode does it: one static policy for STRICT, and
// a converted one for each object with port-level modes. The oldest object of a level wins, UNSET inherits, DISABLE means
// PERMISSIVE (a ztunnel cannot be kept from accepting tunnels). Ports are those of the workload, not of a service.
import { Action, type AuthorizationInit, Scope } from '@ambit/wire/resources';
import type { Labels, MtlsMode, PeerAuthenticationObject } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { isOurRevision, selectsWorkload } from './selector.ts';
import type { GroupInit, MatchInit } from './values.ts';

export interface PeerAuthenticationPolicy {
  /** `namespace/name`. */
  readonly key: string;
  readonly authorization: AuthorizationInit;
}

const STATIC_STRICT = 'istio_converted_static_strict';
const CONVERTED_PREFIX = 'converted_peer_authentication_';
const HAS_NO_IDENTITY: MatchInit = { notPrincipals: [{ matchType: { case: 'presence', value: {} } }] };

/** Every policy that comes from PeerAuthentications; none when there is no such object. Sorted by key. */
export function peerAuthenticationPolicies(
  all: readonly PeerAuthenticationObject[],
  settings: MeshSettings,
): readonly PeerAuthenticationPolicy[] {
  const ours = all.filter(object => isOurRevision(object.metadata, settings));
  if (ours.length === 0) return [];
  const policies: PeerAuthenticationPolicy[] = [
    {
      key: `${settings.rootNamespace}/${STATIC_STRICT}`,
      authorization: denyPolicy(settings.rootNamespace, STATIC_STRICT, [{ rules: [{ matches: [HAS_NO_IDENTITY] }] }]),
    },
  ];
  const levels = levelsOf(ours);
  for (const object of ours) {
    const { name, namespace } = object.metadata;
    if (object.spec.selector === undefined || namespace === settings.rootNamespace) continue;
    const groups = convertPorts(object, levels.get(namespace), levels.get(settings.rootNamespace));
    if (groups.length === 0) continue;
    policies.push({
      key: `${namespace}/${CONVERTED_PREFIX}${name}`,
      authorization: denyPolicy(namespace, CONVERTED_PREFIX + name, groups),
    });
  }
  return policies.toSorted((a, b) => (a.key < b.key ? -1 : Number(a.key > b.key)));
}

/** The object in force of each namespace. To the conversion, unlike to the attachment, a selector without labels is one. */
function levelsOf(ours: readonly PeerAuthenticationObject[]): ReadonlyMap<string, PeerAuthenticationObject> {
  const levels = new Map<string, PeerAuthenticationObject>();
  for (const object of ours.toSorted(byAge)) {
    const { namespace } = object.metadata;
    if (object.spec.selector === undefined && !levels.has(namespace)) levels.set(namespace, object);
  }
  return levels;
}

/**
 * Keys of the policies that a workload must list.
 * @param relevant at least the objects of the root namespace and of the workload's
 */
export function peerAuthenticationAttachments(
  workload: { readonly namespace: string; readonly labels: Labels },
  relevant: readonly PeerAuthenticationObject[],
  settings: MeshSettings,
): readonly string[] {
  const ours = relevant.filter(object => isOurRevision(object.metadata, settings));
  const { rootNamespace } = settings;
  const inOwn = ours.filter(object => object.metadata.namespace === workload.namespace && !hasSelector(object));
  // For the whole mesh stands only what has no selector at all; an empty one reaches no further than its namespace.
  const inRoot = ours.filter(
    ({ metadata, spec }) => metadata.namespace === rootNamespace && spec.selector === undefined,
  );
  const mesh = modeOf(oldest(workload.namespace === rootNamespace ? inOwn : inRoot));
  const parent = inherit(mesh, modeOf(oldest(inOwn)));
  const own = oldest(
    ours.filter(
      object =>
        object.metadata.namespace === workload.namespace &&
        workload.namespace !== rootNamespace &&
        hasSelector(object) &&
        selectsWorkload(object.spec.selector, workload.labels),
    ),
  );
  if (own !== undefined && needsConverted(own, parent === 'STRICT')) {
    return [`${own.metadata.namespace}/${CONVERTED_PREFIX}${own.metadata.name}`];
  }
  return inherit(parent, modeOf(own)) === 'STRICT' ? [`${rootNamespace}/${STATIC_STRICT}`] : [];
}

/** A selector without labels selects a whole namespace, the same as none. */
export function hasSelector(object: PeerAuthenticationObject): boolean {
  return Object.keys(object.spec.selector ?? {}).length > 0;
}

/** Oldest first; without times (objects from files) by name, so that the answer does not depend on order. */
export function byAge(a: PeerAuthenticationObject, b: PeerAuthenticationObject): number {
  const age = (a.metadata.creationTime ?? 0) - (b.metadata.creationTime ?? 0);
  if (age !== 0) return age;
  return a.metadata.name < b.metadata.name ? -1 : Number(a.metadata.name > b.metadata.name);
}

/** The decimal ports with their modes, in numeric order; what is no port is left out. */
export function portModes(object: PeerAuthenticationObject): readonly (readonly [number, MtlsMode])[] {
  return Object.entries(object.spec.portLevelMtls)
    .filter(([port]) => isPort(port))
    .map(([port, mode]) => [Number(port), mode] as const)
    .toSorted(([a], [b]) => a - b);
}

export function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535;
}

export function oldest(objects: readonly PeerAuthenticationObject[]): PeerAuthenticationObject | undefined {
  return objects.toSorted(byAge)[0];
}

export function modeOf(object: PeerAuthenticationObject | undefined): MtlsMode {
  return object?.spec.mtls ?? 'UNSET';
}

function inherit(parent: MtlsMode, own: MtlsMode): MtlsMode {
  return own === 'UNSET' ? parent : own;
}

function isExempt(mode: MtlsMode): boolean {
  return mode === 'PERMISSIVE' || mode === 'DISABLE';
}

/**
 * Strict with exempt ports: one group, no identity AND none of those ports. Permissive with strict ports: a group for each,
 * no identity AND that port. Empty when the modes of the ports add nothing, or when upstream thinks so:
 * - STRICT ports count as said already when the mesh is STRICT and the namespace is silent, even for an object that is
 *   permissive itself (golden 02-policies, `web`);
 * - exempt ports of an UNSET object count for nothing when the namespace has an object without a mode.
 * The policy is attached all the same; `isAttachedInVain` finds those.
 * @param inNamespace the object in force of the namespace; its presence counts, not only its mode
 */
function convertPorts(
  object: PeerAuthenticationObject,
  inNamespace: PeerAuthenticationObject | undefined,
  inMesh: PeerAuthenticationObject | undefined,
): readonly GroupInit[] {
  const own = object.spec.mtls;
  const isParentStrict = inherit(modeOf(inMesh), modeOf(inNamespace)) === 'STRICT';
  const isMeshInForce = modeOf(inNamespace) === 'UNSET' && modeOf(inMesh) === 'STRICT';
  const ports = portModes(object);
  const isCovered = own === 'STRICT' || (own === 'UNSET' && isParentStrict) || isMeshInForce;
  const strict = isCovered ? [] : ports.filter(([, mode]) => mode === 'STRICT');
  const canExempt = own === 'STRICT' || (own === 'UNSET' && modeOf(inNamespace ?? inMesh) === 'STRICT');
  const exempt = canExempt ? ports.filter(([, mode]) => isExempt(mode)) : [];
  const groups: GroupInit[] = strict.map(([port]) => ({
    rules: [{ matches: [{ ...HAS_NO_IDENTITY, destinationPorts: [port] }] }],
  }));
  if (exempt.length === 0) return groups;
  const matches: MatchInit[] = exempt.map(([port]) => ({ notDestinationPorts: [port] }));
  // Said once for the object's own STRICT and once for the inherited one; equal bytes are worth more than brevity.
  if (own === 'STRICT') matches.unshift(HAS_NO_IDENTITY);
  if (isParentStrict) matches.push(HAS_NO_IDENTITY);
  return [...groups, { rules: matches.map(match => ({ matches: [match] })) }];
}

/**
 * Whether workloads list the object's policy although no control plane sends one. A ztunnel must get the same from both;
 * ours refuses plain text to a workload whose converted policy is missing (mesh, rbac.ts), upstream's lets it in.
 * `peer_authentication.ports_not_sent` tells the author.
 */
export function isAttachedInVain(
  object: PeerAuthenticationObject,
  all: readonly PeerAuthenticationObject[],
  rootNamespace: string,
): boolean {
  const { namespace } = object.metadata;
  if (!hasSelector(object) || namespace === rootNamespace) return false;
  const levels = levelsOf(all);
  const [inNamespace, inMesh] = [levels.get(namespace), levels.get(rootNamespace)];
  const isParentStrict = inherit(modeOf(inMesh), modeOf(inNamespace)) === 'STRICT';
  return needsConverted(object, isParentStrict) && convertPorts(object, inNamespace, inMesh).length === 0;
}

/**
 * Whether the converted policy replaces the static one. Upstream's oddity is kept: under an inherited STRICT only
 * PERMISSIVE ports count, so an object that exempts ports with DISABLE alone exempts nothing.
 */
function needsConverted(object: PeerAuthenticationObject, isParentStrict: boolean): boolean {
  const modes = portModes(object).map(([, mode]) => mode);
  if (object.spec.mtls === 'STRICT') return modes.some(isExempt);
  if (object.spec.mtls === 'UNSET' && isParentStrict) return modes.includes('PERMISSIVE');
  return modes.includes('STRICT');
}

function denyPolicy(namespace: string, name: string, groups: readonly GroupInit[]): AuthorizationInit {
  return { name, namespace, scope: Scope.WORKLOAD_SELECTOR, action: Action.DENY, groups: [...groups] };
}
