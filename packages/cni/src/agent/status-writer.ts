// Writes on each pod how it stands (the annotation control planes go by), beside enrolment and not in its way: a pod starts
// when it is protected, not when an API server has taken note. The last word wins, and is tried again until it is taken.
import { errorText, type Log } from '@ambit/log';
import type { RedirectionStatus } from '../sources/pod-source.ts';

export type WriteStatus = (uid: string, status: RedirectionStatus) => Promise<void>;

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;

interface Note {
  status: RedirectionStatus;
  /** What was taken last; undefined as long as nothing was. */
  written: { readonly status: RedirectionStatus } | undefined;
  isWriting: boolean;
  failures: number;
  timer: NodeJS.Timeout | undefined;
}

export class StatusWriter {
  readonly #write: WriteStatus;
  readonly #log: Log;
  readonly #notes = new Map<string, Note>();
  #isClosed = false;

  constructor(write: WriteStatus, log: Log) {
    this.#write = write;
    this.#log = log;
  }

  /** What is on the pod already, as its source tells. */
  found(uid: string, status: RedirectionStatus): void {
    const note = this.#note(uid);
    if (note.written !== undefined) return;
    note.written = { status };
    note.status = status;
  }

  /**
   * What is on the pod now. Somebody else's word is overwritten; an old one of ours, told late, costs one more write.
   */
  seen(uid: string, status: RedirectionStatus): void {
    const note = this.#notes.get(uid);
    if (note?.written === undefined || note.isWriting || status === note.status) return;
    note.written = { status };
    void this.#flush(uid, note);
  }

  /** What is written, or is to be. */
  wanted(uid: string): RedirectionStatus {
    return this.#notes.get(uid)?.status;
  }

  set(uid: string, status: RedirectionStatus): void {
    const note = this.#note(uid);
    note.status = status;
    note.failures = 0;
    clearTimeout(note.timer);
    void this.#flush(uid, note);
  }

  /** The pod is gone, and nobody wants to know. */
  forget(uid: string): void {
    clearTimeout(this.#notes.get(uid)?.timer);
    this.#notes.delete(uid);
  }

  close(): void {
    this.#isClosed = true;
    for (const note of this.#notes.values()) clearTimeout(note.timer);
    this.#notes.clear();
  }

  #note(uid: string): Note {
    const known = this.#notes.get(uid);
    if (known !== undefined) return known;
    const note: Note = { status: undefined, written: undefined, isWriting: false, failures: 0, timer: undefined };
    this.#notes.set(uid, note);
    return note;
  }

  async #flush(uid: string, note: Note): Promise<void> {
    if (note.isWriting) return;
    note.isWriting = true;
    try {
      while (!this.#isClosed && this.#notes.get(uid) === note) {
        const { status } = note;
        if (note.written !== undefined && note.written.status === status) return;
        await this.#write(uid, status);
        note.written = { status };
      }
    } catch (error) {
      const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** note.failures++);
      this.#log.warn('Cannot note a pod’s status', { pod: uid, error: errorText(error), retryMs: delay });
      if (this.#isClosed || this.#notes.get(uid) !== note) return;
      note.timer = setTimeout(() => void this.#flush(uid, note), delay);
      note.timer.unref();
    } finally {
      note.isWriting = false;
    }
  }
}
