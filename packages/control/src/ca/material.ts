// What a self-signed authority is made of: the root that signs, and where in a change of roots it stands. Everything is in
// one value and one text, so that a store replaces it in one step and a crash leaves the old or the new, never half.
import { createHash } from 'node:crypto';
import { ControlError } from '../errors.ts';

export interface RootPair {
  /** One PEM certificate. */
  readonly certPem: string;
  /** PKCS#8 PEM. */
  readonly keyPem: string;
}

/**
 * A change of roots in three steps: `announced` (the old root signs, both are trusted), `switched` (the new root signs, both
 * are trusted), and `steady` again with the new one alone. Times are milliseconds since the epoch.
 */
export type Rotation =
  | { readonly kind: 'steady' }
  | { readonly kind: 'announced'; readonly next: RootPair; readonly sinceMs: number }
  | { readonly kind: 'switched'; readonly previous: RootPair; readonly sinceMs: number };

export interface Material {
  /** The root that signs now. */
  readonly root: RootPair;
  readonly rotation: Rotation;
}

/** Where material is kept. Several control planes may share one store and must come to agree on one root. */
export interface MaterialStore {
  /** For people: `directory /var/lib/ambit/control`, `secret istio-system/istio-ca-secret`. */
  readonly name: string;
  /** Undefined: nothing was stored yet. @throws ControlError when what is there cannot be read or trusted */
  load(): Promise<Material | undefined>;
  /**
   * Replaces `previous` (undefined: nothing stored) as one step.
   * @returns false, with nothing changed, when the store no longer holds `previous`: load again
   * @throws ControlError when it cannot be stored
   */
  save(material: Material, previous: Material | undefined): Promise<boolean>;
}

const STATE_LINE = /^ambit-rotation: (\{.{1,200}\})$/m;
const BLOCK = /-----BEGIN (PRIVATE KEY|CERTIFICATE)-----\n[A-Za-z0-9+/=\n]+-----END \1-----\n/g;

/**
 * One text: a line that says where the rotation stands, then the signing root's key and certificate, then those of the
 * other root if there is one. Text around PEM blocks is allowed (RFC 7468 section 2): openssl reads the signing root.
 */
export function encodeMaterial({ root, rotation }: Material): string {
  const other =
    rotation.kind === 'announced' ? rotation.next : rotation.kind === 'switched' ? rotation.previous : undefined;
  const state =
    rotation.kind === 'steady' ? { kind: rotation.kind } : { kind: rotation.kind, sinceMs: rotation.sinceMs };
  const pairs = other === undefined ? [root] : [root, other];
  return `ambit-rotation: ${JSON.stringify(state)}\n${pairs.map(pair => pair.keyPem + pair.certPem).join('')}`;
}

/** Reads what `encodeMaterial` wrote, or a bare key and certificate. @throws ca.bad_material, never quoting the text */
export function decodeMaterial(text: string, from: string): Material {
  const blocks = [...text.matchAll(BLOCK)];
  const pairs: RootPair[] = [];
  for (let at = 0; at < blocks.length; at += 2) {
    const [key, cert] = [blocks[at], blocks[at + 1]];
    if (key?.[1] !== 'PRIVATE KEY' || cert?.[1] !== 'CERTIFICATE') {
      throw badMaterial(from, 'private keys and certificates do not come in pairs');
    }
    pairs.push({ keyPem: key[0], certPem: cert[0] });
  }
  const [root, other] = pairs;
  if (root === undefined || pairs.length > 2) throw badMaterial(from, `it holds ${pairs.length} roots, not one or two`);
  const state = readState(STATE_LINE.exec(text)?.[1], from);
  if ((state.kind === 'steady') !== (other === undefined)) throw badMaterial(from, 'its state and its roots disagree');
  if (state.kind === 'steady' || other === undefined) return { root, rotation: { kind: 'steady' } };
  const { sinceMs } = state;
  return state.kind === 'announced'
    ? { root, rotation: { kind: 'announced', next: other, sinceMs } }
    : { root, rotation: { kind: 'switched', previous: other, sinceMs } };
}

/** The roots to hand out: the signing one first. */
export function trustBundle({ root, rotation }: Material): string {
  if (rotation.kind === 'announced') return root.certPem + rotation.next.certPem;
  if (rotation.kind === 'switched') return root.certPem + rotation.previous.certPem;
  return root.certPem;
}

export function isSameMaterial(a: Material | undefined, b: Material | undefined): boolean {
  return materialHash(a) === materialHash(b);
}

function materialHash(material: Material | undefined): string {
  return material === undefined ? '' : createHash('sha256').update(encodeMaterial(material)).digest('hex');
}

function readState(json: string | undefined, from: string): { kind: Rotation['kind']; sinceMs: number } {
  if (json === undefined) return { kind: 'steady', sinceMs: 0 };
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw badMaterial(from, 'its rotation line is not JSON', cause);
  }
  const { kind, sinceMs = 0 } = value as { kind?: unknown; sinceMs?: unknown };
  if (kind !== 'steady' && kind !== 'announced' && kind !== 'switched') {
    throw badMaterial(from, 'its rotation line names no known state');
  }
  if (typeof sinceMs !== 'number' || !Number.isFinite(sinceMs))
    throw badMaterial(from, 'its rotation line has no time');
  return { kind, sinceMs };
}

function badMaterial(from: string, what: string, cause?: unknown): ControlError {
  return new ControlError('ca.bad_material', `cannot use the root in ${from}: ${what}`, {
    cause,
    next: 'restore it from a backup, or remove it to start with a new root that every node must fetch',
  });
}
