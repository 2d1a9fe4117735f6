// The pods that enrolment keeps something of: those that a source told of, and those that only the plugin has shown so far.
import { CniError } from '../errors.ts';
import type { AgentPod } from '../pod/agent-pod.ts';
import { newEntry, type PodEntry } from './pod-state.ts';
import { notedStatus } from './pod-wish.ts';
import type { StatusWriter } from './status-writer.ts';

export class PodEntries {
  readonly #entries = new Map<string, PodEntry>();
  readonly #status: StatusWriter;
  readonly #now: () => Date;

  constructor(status: StatusWriter, now: () => Date) {
    this.#status = status;
    this.#now = now;
  }

  all(): Iterable<PodEntry> {
    return this.#entries.values();
  }

  get(uid: string): PodEntry | undefined {
    return this.#entries.get(uid);
  }

  /** The pod's entry, made if there is none, with the pod as it is now. */
  of(pod: AgentPod): PodEntry {
    const known = this.#entries.get(pod.uid);
    if (known !== undefined) {
      known.pod = pod;
      return known;
    }
    const entry = newEntry(pod, this.#now());
    this.#entries.set(pod.uid, entry);
    this.#status.found(pod.uid, notedStatus(pod));
    return entry;
  }

  /** @throws CniError enrol.unknown_pod */
  known(uid: string): PodEntry {
    const entry = this.#entries.get(uid);
    if (entry === undefined) throw new CniError('enrol.unknown_pod', `pod ${uid} is not on this node`);
    return entry;
  }

  forget(uid: string): void {
    this.#entries.delete(uid);
    this.#status.forget(uid);
  }

  /** Without a word to anybody: the agent ends, its pods stay. */
  clear(): void {
    this.#entries.clear();
  }
}
