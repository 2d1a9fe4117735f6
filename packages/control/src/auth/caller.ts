// Who is calling the control plane, once proven, and the ways to prove it.
import type { SpiffeId } from '@ambit/mesh';

export interface Caller {
  readonly identity: SpiffeId;
  /** How it was proven. `loopback` is the plaintext port: nobody is proven there, and it gives no certificates. */
  readonly via: 'certificate' | 'kubernetes' | 'local_token' | 'loopback';
  /** The node the proof is bound to; undefined when the proof says nothing about a node. */
  readonly node: string | undefined;
  /** The pod the proof is bound to (Kubernetes' bound tokens). */
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
}

/** What a call shows of its caller. */
export interface Credentials {
  /** Value of the `authorization` header, with its scheme. */
  readonly authorization: string | undefined;
  /** Header `clusterid`. */
  readonly clusterId: string | undefined;
  /** DER of the verified client certificate; undefined when there was none. Never an unverified one. */
  readonly certificate: Uint8Array | undefined;
  /** Address and port, for logs. */
  readonly peer: string;
}

export type AuthOutcome =
  | { readonly kind: 'caller'; readonly caller: Caller }
  /** `reason` is for our log only; the peer gets an opaque message. */
  | { readonly kind: 'refused'; readonly code: string; readonly reason: string };

export interface Authenticator {
  /** Never rejects. An authenticator that finds none of its own credentials refuses with `auth.none`. */
  authenticate(credentials: Credentials): Promise<AuthOutcome>;
}
