// The public surface of @ambit/kube. Importing it is cheap: neither the official client nor a YAML parser is loaded before
// a kubeconfig asks for one.
export { Backoff, type BackoffOptions, jitter } from './backoff.ts';
export { createDiscovery, type Discovery, type DiscoveryOptions, type Served } from './discovery.ts';
export { KubeError } from './errors.ts';
export { asObject, at, isObject, type JsonObject, listAt, mapAt, textAt, textsAt } from './json.ts';
export {
  KnownObjects,
  type KnownObjectsOptions,
  type ObjectName,
  type ReadObject,
  type UnreadableObject,
} from './known-objects.ts';
export {
  createKubeClient,
  type KubeClient,
  type KubeClientOptions,
  type KubeRequest,
  type KubeResponse,
  type KubeStream,
} from './kube-client.ts';
export type { KubeAccess } from './kube-config.ts';
export type { KubeProblem } from './problem.ts';
export {
  type ObjectSink,
  Reflector,
  type ReflectorCounts,
  type ReflectorDeps,
  type ReflectorScope,
} from './reflector.ts';
export { codeOf, isExpired, type KubeRefusal, refusalError, refusalOf } from './refusal.ts';
export { apiVersionOf, collectionPath, qualifiedName, type ResourceType } from './resource-type.ts';
export { DEFAULT_TIMING, type Timing } from './timing.ts';
export { parseYamlText } from './yaml-text.ts';
