// One object from plain JSON, whoever brought it (a file, an API server): checked, reduced to what the mesh uses. Pure,
// never throws. An object with an error in it is refused as a whole: half a policy could mean its opposite.
import type { Diagnostic } from '../diagnostic.ts';
import { type FieldProblem, Fields, formatPath, isRawObject, show } from './fields.ts';
import { readMetadata } from './metadata.ts';
import { readEndpointSlice, readPod, readService } from './read-core.ts';
import { readServiceEntry, readWorkloadEntry } from './read-entry.ts';
import { readGateway, readGatewayClass, readRoute } from './read-gateway.ts';
import { readAuthorizationPolicy, readPeerAuthentication } from './read-policy.ts';
import { type Kind, type KubeObject, type ObjectRef } from './types.ts';

/** A diagnostic with the path as steps, so that a place in a text can be found for it. */
export interface ObjectProblem extends Diagnostic {
  readonly steps: readonly (string | number)[];
}

/** `problems` of an object that was read are warnings. */
export type ReadResult =
  | { readonly object: KubeObject; readonly problems: readonly ObjectProblem[] }
  | { readonly problems: readonly ObjectProblem[] };

/** What an object is, where it does not say so itself: items of an API server's lists do not. */
export interface TypeHint {
  readonly apiVersion: string;
  readonly kind: string;
}

interface KindReader {
  readonly kind: Kind;
  readonly group: string;
  readonly versions: readonly string[];
  readonly isNamespaced: boolean;
  /** Undefined: there is nothing in it but metadata. */
  readonly read: ((fields: Fields) => object) | undefined;
}

const CORE = { group: '', versions: ['v1'] };
const NETWORKING = { group: 'networking.istio.io', versions: ['v1', 'v1beta1', 'v1alpha3'], isNamespaced: true };
const SECURITY = { group: 'security.istio.io', versions: ['v1', 'v1beta1'], isNamespaced: true };
const GATEWAY = { group: 'gateway.networking.k8s.io', versions: ['v1', 'v1beta1'] };
const DISCOVERY = { group: 'discovery.k8s.io', versions: ['v1'] };

const READERS: readonly KindReader[] = [
  { ...CORE, kind: 'Namespace', isNamespaced: false, read: undefined },
  { ...CORE, kind: 'Node', isNamespaced: false, read: undefined },
  { ...CORE, kind: 'ServiceAccount', isNamespaced: true, read: undefined },
  { ...CORE, kind: 'Pod', isNamespaced: true, read: readPod },
  { ...CORE, kind: 'Service', isNamespaced: true, read: readService },
  { ...DISCOVERY, kind: 'EndpointSlice', isNamespaced: true, read: readEndpointSlice },
  { ...NETWORKING, kind: 'WorkloadEntry', read: readWorkloadEntry },
  { ...NETWORKING, kind: 'ServiceEntry', read: readServiceEntry },
  { ...SECURITY, kind: 'AuthorizationPolicy', read: readAuthorizationPolicy },
  { ...SECURITY, kind: 'PeerAuthentication', read: readPeerAuthentication },
  { ...GATEWAY, kind: 'Gateway', isNamespaced: true, read: readGateway },
  { ...GATEWAY, kind: 'GatewayClass', isNamespaced: false, read: readGatewayClass },
  { ...GATEWAY, kind: 'HTTPRoute', isNamespaced: true, read: readRoute },
  { ...GATEWAY, kind: 'GRPCRoute', isNamespaced: true, read: readRoute },
];
const BY_GROUP_AND_KIND = new Map(READERS.map(reader => [`${reader.group}/${reader.kind}`, reader]));

export function readObject(raw: unknown, hint?: TypeHint): ReadResult {
  if (!isRawObject(raw)) return refuse('config.not_an_object', `expected an object, not ${show(raw)}`, []);
  const apiVersion = raw['apiVersion'] ?? hint?.apiVersion;
  const kind = raw['kind'] ?? hint?.kind;
  if (typeof apiVersion !== 'string' || typeof kind !== 'string' || apiVersion === '' || kind === '') {
    return refuse('config.not_an_object', 'not a Kubernetes object: it needs an apiVersion and a kind', []);
  }
  const slash = apiVersion.indexOf('/');
  const group = slash < 0 ? '' : apiVersion.slice(0, slash);
  const reader = BY_GROUP_AND_KIND.get(`${group}/${kind}`);
  if (reader === undefined) return skip(apiVersion, kind);
  if (!reader.versions.includes(apiVersion.slice(slash + 1))) return refuseVersion(reader, apiVersion);
  const found: FieldProblem[] = [];
  const fields = new Fields(raw, found);
  const metadata = readMetadata(fields, reader.isNamespaced);
  // Each reader gives exactly the body of its kind; the table cannot say so in types.
  const object = { kind: reader.kind, metadata, ...reader.read?.(fields) } as KubeObject;
  if (found.length === 0) return { object, problems: NONE };
  const ref =
    metadata.name === '' ? undefined : { kind: object.kind, namespace: metadata.namespace, name: metadata.name };
  const problems = found.map(problem => withRef(problem, ref));
  return problems.some(({ severity }) => severity === 'error') ? { problems } : { object, problems };
}

const NONE: readonly ObjectProblem[] = Object.freeze([]);

function withRef({ steps, ...rest }: FieldProblem, ref: ObjectRef | undefined): ObjectProblem {
  const path = formatPath(steps);
  return { ...rest, ref, path, steps, message: path === '' ? rest.message : `${path}: ${rest.message}` };
}

function refuse(code: string, message: string, steps: readonly string[]): ReadResult {
  const remedy = 'correct it, or take it out';
  return { problems: [{ code, severity: 'error', message, remedy, steps }] };
}

function refuseVersion(reader: KindReader, apiVersion: string): ReadResult {
  const known = reader.versions.map(version => (reader.group === '' ? version : `${reader.group}/${version}`));
  const message = `${reader.kind} has no version ${show(apiVersion)}`;
  const remedy = `write ${known.join(' or ')}`;
  return { problems: [{ code: 'config.unknown_version', severity: 'error', message, remedy, steps: ['apiVersion'] }] };
}

function skip(apiVersion: string, kind: string): ReadResult {
  const message = `${show(kind)} of ${show(apiVersion)} is not read by the mesh`;
  const remedy = 'nothing to do, unless it was meant for the mesh';
  return { problems: [{ code: 'config.skipped_kind', severity: 'info', message, remedy, steps: ['kind'] }] };
}
