// A node's agent on a bed: the enrolment socket of the real one (`ZdsServer` of the cni room), with the bed telling it what
// there is instead of Kubernetes. Holds the namespaces of the pods it announces.
import { CniError, HeldNetns, ZdsServer } from '@ambit/cni';
import type { Reactor } from '@ambit/native';
import type { WorkloadInfo } from '@ambit/wire';
import { TestbedError } from './errors.ts';

/** For an answer, and for the proxy that gives it. */
const TIMEOUT_MS = 15_000;

export class BedAgent {
  readonly path: string;
  readonly #server: ZdsServer;
  readonly #held = new Map<string, HeldNetns>();

  /**
   * Listens at `path`, unless the place is somebody else's: then nothing is to be announced here. Must be called on the
   * thread that polls the reactor. @throws CniError cni.config
   */
  constructor(reactor: Reactor, path: string, isListening = true) {
    this.path = path;
    this.#server = new ZdsServer(reactor, path);
    if (isListening) this.#server.listen();
  }

  /** Proxies that are connected and have said hello. */
  get connections(): number {
    return this.#server.connections;
  }

  /** Announces a pod; `enrolled` tells the outcome. @throws testbed.name_taken, CniError enrol.no_netns */
  add(uid: string, info: WorkloadInfo, netnsPath: string): void {
    if (this.#held.has(uid)) throw new TestbedError('testbed.name_taken', `pod ${uid} is announced already`);
    const held = HeldNetns.open(netnsPath);
    this.#held.set(uid, held);
    this.#server.add(uid, info, held);
  }

  /** Waits for the proxy's answer. @throws enrol.refused with the proxy's words, testbed.timeout */
  async enrolled(uid: string): Promise<void> {
    await asBed(this.#server.enrolled(uid, AbortSignal.timeout(TIMEOUT_MS)));
  }

  /** Waits until the proxy that connected last has acknowledged the end of its snapshot. @throws testbed.timeout */
  async synced(): Promise<void> {
    await asBed(this.#server.whenSynced(AbortSignal.timeout(TIMEOUT_MS)));
  }

  /** Withdraws a pod; resolves when every proxy that knew it has answered or is gone. Unknown pods are fine. */
  async remove(uid: string): Promise<void> {
    await this.#server.remove(uid);
    this.#held.get(uid)?.close();
    this.#held.delete(uid);
  }

  /** Hangs up on everybody. Proxies keep serving what they serve. Closing twice is fine. */
  close(): void {
    this.#server.close();
    for (const held of this.#held.values()) held.close();
    this.#held.clear();
  }
}

/** The room fails in one way, whoever's words they are. */
async function asBed(promise: Promise<void>): Promise<void> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof CniError)) throw error;
    const { code, message, where, next } = error;
    const ours =
      code === 'enrol.refused' || code === 'enrol.protocol' || code === 'enrol.disconnected' ? code : 'testbed.timeout';
    throw new TestbedError(ours, message, {
      ...(where === undefined ? {} : { where }),
      ...(next === undefined ? {} : { next }),
      cause: error,
    });
  }
}
