// What the authority needs from wherever its signer comes: a self-signed root of its own, or plugged-in files.
import type { Diagnostic } from '../diagnostic.ts';
import type { Signer } from './signer.ts';

export interface SigningState {
  /** Signs new certificates. */
  readonly signer: Signer;
  /** Every signer whose certificates may be in use and whose key is at hand, the present one first: each has its own CRL. */
  readonly signers: readonly Signer[];
  /** PEM of all roots to trust. */
  readonly rootsPem: string;
  /** PEM of lists that others signed, to publish beside ours; may be empty. */
  readonly foreignCrlPem: string;
  /** For people: `steady`, `announced`, `switched`, or `plugged in`. */
  readonly phase: string;
}

export interface SigningSource {
  readonly name: string;
  /** Undefined before `start`. */
  readonly state: SigningState | undefined;
  /** What stands in the way of using what is there now; the last good state stays in force. */
  readonly problems: readonly Diagnostic[];
  /** When the next step is due by the clock, if that is known: `refresh` then. */
  readonly dueAtMs: number | undefined;
  /** Opens or makes what signs. @throws ControlError when nothing can sign */
  start(): Promise<void>;
  /** Looks again and takes the next step that is due; true when the state changed. Never rejects: problems say what failed. */
  refresh(): Promise<boolean>;
  /** Begins a change of roots. @throws ca.rotation when one is under way or the roots are not ours */
  rotate(): Promise<void>;
  /** Calls back when files changed and a `refresh` is due; returns how to stop. */
  watch(changed: () => void): () => void;
}
