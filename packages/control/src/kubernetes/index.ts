// What the rest of the control plane uses of Kubernetes. Importing it is cheap: the client library is loaded on first use.
export { createKubeClient, type KubeClient, type KubeRequest, type KubeResponse } from './kube-client.ts';
export type { KubeAccess } from './kube-config.ts';
export type { ReadObject } from './known-objects.ts';
export { createKubernetesSource, type KubernetesSource, type KubernetesSourceOptions } from './kubernetes-source.ts';
export { DEFAULT_TIMING, type Timing } from './timing.ts';
export { createTokenReviewer, type TokenReviewerOptions } from './token-reviewer.ts';
export {
  createSecretStore,
  type SecretContents,
  type SecretStore,
  type SecretStoreOptions,
  type SecretWrite,
} from './secret-store.ts';
export {
  type ConfigMapWriter,
  type ConfigMapWriterOptions,
  createConfigMapWriter,
  type PublishedTrust,
} from './config-map-writer.ts';
