// Containers of this machine as a source of pods: those that carry the label, of every engine whose socket is there, for
// as long as they run. An engine that is away changes nothing about the containers it had: they are looked at again when
// it is back.
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { AgentPod, PodNamespace, PodSource, PodSourceEvents, RedirectionStatus } from '@ambit/cni';
import { errorText, type Log } from '@ambit/log';
import type { ObjectsFile } from '../objects-file.ts';
import { containerPod } from './container-pod.ts';
import { EngineClient } from './engine-client.ts';

/** Docker's and Podman's usual places. */
export const ENGINE_SOCKETS: readonly string[] = ['/var/run/docker.sock', '/run/podman/podman.sock'];

/** A container in the mesh, for people. */
export interface ContainerView {
  readonly pod: AgentPod;
  readonly status: RedirectionStatus;
  readonly createdAt: string;
}

interface Entry {
  readonly pod: AgentPod;
  readonly createdAt: string;
  readonly engine: string;
  status: RedirectionStatus;
}

/** How often it is looked whether an engine has come, and the pause after it went. */
const PAUSE_MS = 3_000;
/** The agent does not wait longer for an engine that is stuck. */
const FIRST_SYNC_MS = 5_000;
const MAX_CONTAINERS = 1_000;
const OBJECTS_PART = 'containers';

export class Containers implements PodSource {
  readonly #sockets: readonly string[];
  readonly #objects: ObjectsFile;
  readonly #log: Log;
  /** By the container's id. */
  readonly #entries = new Map<string, Entry>();
  readonly #ending = new AbortController();
  readonly #told = new Set<string>();
  #events: PodSourceEvents | undefined;
  #loops: readonly Promise<void>[] = [];

  constructor(objects: ObjectsFile, log: Log, sockets = ENGINE_SOCKETS) {
    this.#objects = objects;
    this.#log = log;
    this.#sockets = sockets;
  }

  readonly start = async (events: PodSourceEvents, signal: AbortSignal): Promise<void> => {
    signal.addEventListener('abort', () => this.#ending.abort(), { once: true });
    const first = this.#sockets
      .filter(path => existsSync(path))
      .map(path => [path, Promise.withResolvers<void>()] as const);
    const waiting = new Map(first);
    this.#loops = this.#sockets.map(async path => this.#follow(path, () => waiting.get(path)?.resolve()));
    const all = Promise.all(first.map(async ([, { promise }]) => promise));
    await Promise.race([all, delay(FIRST_SYNC_MS, undefined, { ref: false })]);
    this.#events = events;
  };

  readonly pods = (): Iterable<AgentPod> => [...this.#entries.values()].map(({ pod }) => pod);

  readonly pod = (namespace: string, name: string): AgentPod | undefined => {
    for (const { pod } of this.#entries.values()) if (pod.namespace === namespace && pod.name === name) return pod;
    return undefined;
  };

  readonly namespace = (name: string): PodNamespace => ({ name, labels: {} });

  readonly setStatus = async (pod: AgentPod, status: RedirectionStatus): Promise<void> => {
    const entry = [...this.#entries.values()].find(each => each.pod.uid === pod.uid);
    if (entry === undefined) return;
    entry.status = status;
    this.#writeObjects();
  };

  readonly close = async (): Promise<void> => {
    this.#ending.abort();
    await Promise.all(this.#loops);
  };

  list(): ContainerView[] {
    return [...this.#entries.values()].map(({ pod, status, createdAt }) => ({ pod, status, createdAt }));
  }

  async #follow(path: string, onSynced: () => void): Promise<void> {
    const { signal } = this.#ending;
    const client = new EngineClient(path);
    while (!signal.aborted) {
      if (existsSync(path)) {
        try {
          await this.#followOnce(client, path, onSynced);
        } catch (error) {
          this.#tell(`${path} ${errorText(error)}`, () =>
            this.#log.warn('A container engine went', { error: errorText(error), path }),
          );
          onSynced();
        }
      }
      await delay(PAUSE_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** Until the engine ends its stream of events. One question at a time, so that the last answer is the newest. */
  async #followOnce(client: EngineClient, path: string, onSynced: () => void): Promise<void> {
    let work = Promise.resolve();
    const then = (step: () => Promise<void>): void => {
      work = work
        .then(step)
        .catch((error: unknown) => this.#log.warn('Cannot look at a container', { error: errorText(error) }));
    };
    const lookAtAll = async () => {
      const ids = await client.running();
      for (const [id, { engine }] of this.#entries) if (engine === path && !ids.includes(id)) this.#remove(id);
      for (const id of ids) await this.#look(client, path, id);
      onSynced();
    };
    await client.watch(
      () => then(lookAtAll),
      id => then(async () => this.#look(client, path, id)),
      this.#ending.signal,
    );
    await work;
  }

  async #look(client: EngineClient, engine: string, id: string): Promise<void> {
    const answer = containerPod(await client.inspect(id));
    if (answer.kind === 'refused')
      this.#tell(id, () => this.#log.warn('A labelled container stays outside', { why: answer.why }));
    if (answer.kind !== 'pod') {
      this.#remove(id);
      return;
    }
    const before = this.#entries.get(id);
    if (before === undefined && this.#entries.size >= MAX_CONTAINERS) {
      this.#tell('limit', () =>
        this.#log.error('Too many containers; further ones stay outside', { limit: MAX_CONTAINERS }),
      );
      return;
    }
    if (before !== undefined && JSON.stringify(before.pod) === JSON.stringify(answer.pod)) return;
    const { pod, createdAt } = answer;
    this.#entries.set(id, { pod, createdAt, engine, status: undefined });
    this.#writeObjects();
    // Started again it is another pod, and the old one is gone.
    if (before !== undefined) this.#events?.onPodGone(before.pod);
    this.#events?.onPod(pod, undefined);
  }

  #remove(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    this.#writeObjects();
    this.#events?.onPodGone(entry.pod);
  }

  /** Once for each cause: an engine that is stuck, or a container that cannot join, is looked at again and again. */
  #tell(cause: string, say: () => void): void {
    if (this.#told.has(cause) || this.#told.size >= MAX_CONTAINERS) return;
    this.#told.add(cause);
    say();
  }

  #writeObjects(): void {
    const entries = [...this.#entries.values()];
    this.#objects.set(OBJECTS_PART, {
      pods: entries.map(({ pod, createdAt, status }) => ({ ...pod, createdAt, status })),
      // Labels may say another app: then other names lead to it.
      headless: entries.map(({ pod }) => pod).filter(({ labels, name }) => labels['app'] === name),
      services: [],
    });
  }
}
