// The audit log: one JSON line for everything the authority did or refused, in `audit.jsonl` and three older files of 16 MiB.
// What grants something is written before it is granted, or not granted. Refusals are counted always and written at a
// bounded rate a caller, so that a flood of them can neither fill the disk nor push older lines out.
import { formatSpiffeId } from '@ambit/mesh';
import type { Caller } from '../auth/caller.ts';
import { TokenBucket } from '../token-bucket.ts';
import { LineFile } from './line-file.ts';

export interface AuditEvent {
  readonly event: 'certificate' | 'serving_certificate' | 'token' | 'revocation' | 'rotation';
  readonly decision: 'granted' | 'refused';
  /** Undefined: this machine's administrator, or the control plane itself. */
  readonly caller?: Caller | undefined;
  /** Address and port. */
  readonly peer?: string | undefined;
  /** SPIFFE text, as it was asked for. */
  readonly requested?: string | undefined;
  /** Hexadecimal. */
  readonly serial?: string | undefined;
  readonly notAfterMs?: number | undefined;
  /** Why it was refused; or for a rotation, the phase. */
  readonly code?: string | undefined;
  readonly reason?: string | undefined;
}

export interface AuditOptions {
  readonly path: string;
  readonly now: () => number;
  /** Default 16 MiB. */
  readonly maxBytes?: number;
}

const MAX_BYTES = 16 * 1024 * 1024;
const OLD_FILES = 3;
/** Refusals that one caller has written at once, and how long until one more is. */
const BURST = 10;
const REFILL_MS = 6_000;
/** Callers that are told apart; those beyond share one allowance. */
const MAX_CALLERS = 1_024;
const MAX_TEXT = 512;

interface Allowance {
  readonly bucket: TokenBucket;
  suppressed: number;
}

export class AuditLog {
  readonly #options: AuditOptions;
  readonly #file: LineFile;
  readonly #allowances = new Map<string, Allowance>();
  readonly #refusals = new Map<string, number>();

  /** @throws what the file system says */
  constructor(options: AuditOptions) {
    this.#options = options;
    this.#file = new LineFile(options.path);
  }

  /** Refusals by code since start, written or not. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#refusals;
  }

  /** Writes a line about something granted. @throws what the file system says: then it must not be granted */
  grant(event: Omit<AuditEvent, 'decision'>): void {
    this.#append({ ...event, decision: 'granted' }, 0);
  }

  /** Counts a refusal and writes it if its caller's allowance lasts. @throws what the file system says */
  refuse(event: Omit<AuditEvent, 'decision'> & { readonly code: string }): void {
    this.#refusals.set(event.code, (this.#refusals.get(event.code) ?? 0) + 1);
    const allowance = this.#allowance(event);
    if (allowance.bucket.take(this.#options.now()) === undefined) {
      allowance.suppressed += 1;
      return;
    }
    this.#append({ ...event, decision: 'refused' }, allowance.suppressed);
    allowance.suppressed = 0;
  }

  close(): void {
    this.#file.close();
  }

  #append(event: AuditEvent, suppressed: number): void {
    if (this.#file.bytes >= (this.#options.maxBytes ?? MAX_BYTES)) this.#file.rotate(OLD_FILES);
    this.#file.append(toLine(event, suppressed, this.#options.now()));
  }

  #allowance({
    caller,
    peer = '',
  }: {
    readonly caller?: Caller | undefined;
    readonly peer?: string | undefined;
  }): Allowance {
    const { now } = this.#options;
    const named =
      caller === undefined
        ? `peer ${peer.replace(/:\d+$/, '')}`
        : `${caller.identity.namespace}/${caller.identity.serviceAccount}@${caller.node ?? caller.pod?.name ?? ''}`;
    if (this.#allowances.size >= MAX_CALLERS && !this.#allowances.has(named)) this.#forgetIdle(now());
    const key = this.#allowances.size < MAX_CALLERS || this.#allowances.has(named) ? named : 'all others';
    const allowance = this.#allowances.get(key) ?? {
      bucket: new TokenBucket(1_000 / REFILL_MS, BURST, now()),
      suppressed: 0,
    };
    this.#allowances.set(key, allowance);
    return allowance;
  }

  #forgetIdle(nowMs: number): void {
    for (const [key, { bucket, suppressed }] of this.#allowances) {
      if (suppressed === 0 && bucket.isFull(nowMs)) this.#allowances.delete(key);
    }
  }
}

function toLine(event: AuditEvent, suppressed: number, nowMs: number): object {
  const { caller, notAfterMs } = event;
  return {
    time: new Date(nowMs).toISOString(),
    event: event.event,
    decision: event.decision,
    code: event.code,
    reason: event.reason?.slice(0, MAX_TEXT),
    caller:
      caller === undefined
        ? undefined
        : {
            identity: formatSpiffeId(caller.identity),
            via: caller.via,
            node: caller.node,
            pod: caller.pod?.name,
          },
    peer: event.peer,
    requested: event.requested?.slice(0, MAX_TEXT),
    serial: event.serial,
    notAfter: notAfterMs === undefined ? undefined : new Date(notAfterMs).toISOString(),
    suppressed: suppressed === 0 ? undefined : suppressed,
  };
}
