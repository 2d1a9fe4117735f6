// How the parts of the mesh of this machine stand, as the supervisor writes it to a file for `ambit up`, `ps` and `down`.
import { lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { writeAtomically } from '../atomic-file.ts';
import { isAlive, type ProcessIdentity } from '../process-identity.ts';
import type { WayOutStatus } from './way-out.ts';

export const PART_NAMES = ['control', 'agent', 'ztunnel'] as const;
export type PartName = (typeof PART_NAMES)[number];

export type PartState =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'starting'; readonly pid: number | undefined; readonly why: string }
  | { readonly kind: 'ready'; readonly pid: number; readonly since: string }
  /** Ended; it is started again after a pause. */
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'stopped' };

export interface UpStatus {
  readonly supervisor: ProcessIdentity;
  readonly startedAt: string;
  /** In namespaces of an ordinary user, which the supervisor holds. */
  readonly isRootless: boolean;
  /** Of a mesh without root; undefined: none. */
  readonly wayOut?: WayOutStatus | undefined;
  readonly parts: Readonly<Record<PartName, PartState>>;
  readonly restarts: Readonly<Record<PartName, number>>;
  /** Why a part ended last. */
  readonly failures: Readonly<Record<PartName, string | undefined>>;
}

export function writeUpStatus(path: string, status: UpStatus): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  // Readable by all: it says nothing that ps would not.
  writeAtomically(path, `${JSON.stringify(status)}\n`, 0o644);
}

/** The status of a supervisor that lives; undefined when there is none. */
export function readUpStatus(path: string): UpStatus | undefined {
  try {
    // A user's own may be below /tmp, where others can put one that leads him into their mesh.
    const { uid } = lstatSync(path);
    if (uid !== 0 && uid !== process.getuid?.()) return undefined;
    // Written by our own supervisor only.
    const status = JSON.parse(readFileSync(path, 'utf8')) as UpStatus;
    return isAlive(status.supervisor) ? status : undefined;
  } catch {
    return undefined;
  }
}

export function isUp(status: UpStatus): boolean {
  return PART_NAMES.every(name => status.parts[name].kind === 'ready');
}
