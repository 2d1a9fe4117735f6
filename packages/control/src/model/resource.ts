// What leaves the model: resources as xDS carries them, already encoded. Everything downstream (server, render, admin)
// works on these and never on the objects they came from.

export type ResourceKind = 'workload' | 'service' | 'authorization';

export interface XdsResource {
  readonly kind: ResourceKind;
  /** xDS name: a workload's uid, `namespace/hostname`, or `namespace/name` of a policy. */
  readonly name: string;
  /** Hash of `value`, lower-case hexadecimal: equal content has equal versions, in every process. */
  readonly version: string;
  /** `network/ip`, or `network/ip/length`: other names under which it can be asked for. */
  readonly aliases: readonly string[];
  /** The encoded `istio.workload.Address` or `istio.security.Authorization`. */
  readonly value: Uint8Array;
  /** Of a workload: the services (`namespace/hostname`) it is an endpoint of. */
  readonly services: readonly string[];
  /** Of a workload: its node's name; else empty. */
  readonly node: string;
}

/** What a batch of object changes did to the resources: name to the new state, or undefined for one that is gone. */
export interface ResourceDelta {
  readonly addresses: ReadonlyMap<string, XdsResource | undefined>;
  readonly authorizations: ReadonlyMap<string, XdsResource | undefined>;
}

/** Where pods are, for the certificate authority: a node may ask only for identities that live on it. */
export interface PodDirectory {
  /** Whether a pod that has not ended runs on the node under this service account. */
  hasIdentityOnNode(node: string, namespace: string, serviceAccount: string): boolean;
  /** The pod, if it is known; `uid` empty when the source gave none. */
  pod(
    namespace: string,
    name: string,
  ): { readonly uid: string; readonly node: string; readonly serviceAccount: string } | undefined;
}
