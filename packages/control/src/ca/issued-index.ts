// Which unexpired certificates this control plane issued, and to whom: needed to revoke by identity. Kept in memory and in a
// file that grows a line a certificate and is rewritten without the expired ones at start and whenever it is mostly those.
import { join } from 'node:path';
import { LineFile, readLines } from './line-file.ts';
import { writeAtomically } from './state-files.ts';

export interface Issued {
  /** Hexadecimal, lower case. */
  readonly serial: string;
  /** SPIFFE text. */
  readonly identity: string;
  /** The node it was issued to; empty when unproven. */
  readonly node: string;
  readonly issuedAtMs: number;
  readonly notAfterMs: number;
  /** `Signer.id` of who signed it. */
  readonly issuer: string;
}

/** Lines of expired certificates that are not worth a rewrite. */
const SLACK_LINES = 1_000;

export class IssuedIndex {
  readonly #path: string;
  readonly #file: LineFile;
  readonly #bySerial: Map<string, Issued>;
  #lines: number;

  private constructor(path: string, file: LineFile, bySerial: Map<string, Issued>) {
    this.#path = path;
    this.#file = file;
    this.#bySerial = bySerial;
    this.#lines = bySerial.size;
  }

  static async open(directory: string, nowMs: number): Promise<IssuedIndex> {
    const path = join(directory, 'issued.jsonl');
    const lines: readonly unknown[] = readLines(path);
    const live = lines.filter(isIssued).filter(each => each.notAfterMs > nowMs);
    const bySerial = new Map(live.map(each => [each.serial, each]));
    await writeAtomically(path, toText(bySerial), 0o600);
    return new IssuedIndex(path, new LineFile(path), bySerial);
  }

  /** Remembers one before it is handed out. @throws what the file system says: then it must not be */
  add(issued: Issued): void {
    this.#file.append(issued);
    this.#lines += 1;
    this.#bySerial.set(issued.serial, issued);
  }

  get(serial: string): Issued | undefined {
    return this.#bySerial.get(serial);
  }

  /** Those not expired at that time. */
  list(nowMs: number): readonly Issued[] {
    return [...this.#bySerial.values()].filter(each => each.notAfterMs > nowMs);
  }

  /** Forgets what has expired. @throws what the file system says; the memory is right all the same */
  async prune(nowMs: number): Promise<void> {
    for (const [serial, { notAfterMs }] of this.#bySerial) if (notAfterMs <= nowMs) this.#bySerial.delete(serial);
    if (this.#lines - this.#bySerial.size <= Math.max(SLACK_LINES, this.#bySerial.size)) return;
    const known = new Set(this.#bySerial.keys());
    await writeAtomically(this.#path, toText(this.#bySerial), 0o600);
    this.#file.reopen();
    this.#lines = known.size;
    // Issued while the new file was being written: they went into the old one, which is gone.
    for (const [serial, issued] of this.#bySerial) {
      if (known.has(serial)) continue;
      this.#file.append(issued);
      this.#lines += 1;
    }
  }

  close(): void {
    this.#file.close();
  }
}

function toText(bySerial: ReadonlyMap<string, Issued>): string {
  return [...bySerial.values()].map(each => `${JSON.stringify(each)}\n`).join('');
}

/** Our own lines; anything else was not written by us. */
function isIssued(value: unknown): value is Issued {
  const { serial, identity, node, issuedAtMs, notAfterMs, issuer } = value as Partial<Record<keyof Issued, unknown>>;
  return (
    typeof serial === 'string' &&
    typeof identity === 'string' &&
    typeof node === 'string' &&
    typeof issuedAtMs === 'number' &&
    typeof notAfterMs === 'number' &&
    typeof issuer === 'string'
  );
}
