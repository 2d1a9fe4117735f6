// Which identities the pods of this node need: pods of one service account share a certificate, and it is kept for as
// long as one of them needs it. Also how a worker is told of one.
import type { CertificateState } from '../identity/certificate-manager.ts';
import type { ToWorker } from '../worker-protocol.ts';

/** Whoever keeps certificates; see CertificateManager. */
export interface IdentityStore {
  want(identity: string): void;
  forget(identity: string): void;
  /** A connection failed for want of it. */
  need(identity: string): void;
  state(identity: string): CertificateState | undefined;
}

export class IdentityUsers {
  readonly #store: IdentityStore;
  readonly #onForgotten: (identity: string) => void;
  readonly #users = new Map<string, number>();

  constructor(store: IdentityStore, onForgotten: (identity: string) => void) {
    this.#store = store;
    this.#onForgotten = onForgotten;
  }

  /** What is known of each needed identity. */
  *states(): Generator<readonly [identity: string, state: CertificateState]> {
    for (const identity of this.#users.keys()) {
      const state = this.#store.state(identity);
      if (state !== undefined) yield [identity, state];
    }
  }

  /** One user changes from `former` to `next`; undefined is none. */
  change(former: string | undefined, next: string | undefined): void {
    if (former === next) return;
    if (next !== undefined) {
      const users = this.#users.get(next) ?? 0;
      this.#users.set(next, users + 1);
      if (users === 0) this.#store.want(next);
    }
    if (former !== undefined) this.#drop(former);
  }

  #drop(identity: string): void {
    const users = (this.#users.get(identity) ?? 1) - 1;
    if (users > 0) {
      this.#users.set(identity, users);
      return;
    }
    this.#users.delete(identity);
    this.#store.forget(identity);
    this.#onForgotten(identity);
  }
}

/** What workers are told of a certificate; undefined while there is nothing to tell. */
export function certificateMessage(identity: string, state: CertificateState): ToWorker | undefined {
  switch (state.kind) {
    case 'initializing':
      return undefined;
    case 'available':
      return { type: 'certificate', identity, material: state.certificate.material, error: undefined };
    case 'unavailable':
      return { type: 'certificate', identity, material: undefined, error: state.error };
  }
}
