// Where workers ask what the mesh says to a name. A decision holds until a change of the mesh concerns the name, and then all
// workers are told to forget it. Fails open: on a bug of ours the node's resolvers are asked instead.
//
// A pod that starts may ask before the control plane has named it. Its questions wait for that, once and for less than any
// resolver waits for an answer; then it gets SERVFAIL at once until it is known. (Upstream lets each question wait for 5 s,
// by which time resolvers have asked again, and again.)
import {
  type DnsClient,
  type DnsDecision,
  type DnsSettings,
  type MeshView,
  resolveName,
  type StaleNames,
} from '@ambit/mesh';
import type { Clock } from '../clock.ts';
import type { DnsFromWorker } from '../dns/dns-messages.ts';
import { MeshLabels } from '../dns/mesh-labels.ts';
import { errorText } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { PodInfo, ToWorker } from '../worker-protocol.ts';

/** The mesh, and what of it no longer is what was told (`MeshState`). */
export interface NamedMesh extends MeshView {
  takeStaleNames(): StaleNames | undefined;
}

export interface DnsDeskDeps {
  readonly view: NamedMesh;
  readonly clock: Clock;
  readonly log: Logger;
  readonly podOf: (uid: string) => PodInfo | undefined;
  /** Tells all workers. */
  readonly broadcast: (message: ToWorker) => void;
}

/** Who gets an answer. */
export interface DnsAsker {
  send(message: ToWorker): void;
}

type NeedDns = Extract<DnsFromWorker, { type: 'needDns' }>;

/** A pod that the mesh has yet to name. `waiting` is undefined once it has waited long enough. */
interface UnknownPod {
  waiting: { readonly asker: DnsAsker; readonly question: NeedDns }[] | undefined;
  readonly cancel: () => void;
}

/** musl asks again after 2.5 s, glibc after 5 s. */
const UNKNOWN_POD_WAIT_MS = 2000;
/** Questions of one unknown pod that wait. */
const MAX_WAITING = 64;
const UNKNOWN_CLIENT: DnsDecision = {
  kind: 'unknown_client',
  steps: [{ what: 'the mesh does not know the workload that asks' }],
};

export class DnsDesk {
  readonly #deps: DnsDeskDeps;
  readonly #unknown = new Map<string, UnknownPod>();
  #settings: DnsSettings;
  /** Made when somebody asks for the first time: changes are noted from then on. */
  #labels: MeshLabels | undefined;

  constructor(deps: DnsDeskDeps, settings: DnsSettings) {
    this.#deps = deps;
    this.#settings = settings;
  }

  /** The resolver's search list is another one now. Every decision told before is stale. */
  setSearchDomains(searchDomains: DnsSettings['searchDomains']): void {
    this.#settings = { ...this.#settings, searchDomains };
  }

  /** Which names may be the mesh's, for a worker that starts; undefined before the first question. */
  get labels(): SharedArrayBuffer | undefined {
    return this.#labels?.bits;
  }

  /** Answers now, or once the mesh knows the pod. */
  answer(asker: DnsAsker, question: NeedDns): void {
    const client = this.#clientOf(question.uid);
    if (client !== undefined) this.#decide(asker, question, client);
    else if (!this.#letWait(asker, question)) reply(asker, question, UNKNOWN_CLIENT);
  }

  /** To be told to all workers, before anything that is decided afterwards. */
  takeStale(): StaleNames | undefined {
    const stale = this.#deps.view.takeStaleNames();
    if (stale !== undefined) this.#noteLabels(stale);
    return stale;
  }

  /** The mesh changed: answers those that waited and are known now. */
  wake(): void {
    for (const [uid, pod] of this.#unknown) {
      const client = this.#clientOf(uid);
      if (client === undefined && this.#deps.podOf(uid) !== undefined) continue;
      pod.cancel();
      this.#unknown.delete(uid);
      for (const { asker, question } of pod.waiting ?? []) {
        if (client === undefined) reply(asker, question, UNKNOWN_CLIENT);
        else this.#decide(asker, question, client);
      }
    }
  }

  /** Workers are told, or see it at once in the memory they share, before they are told to forget. */
  #noteLabels(stale: StaleNames): void {
    const labels = this.#labels;
    if (labels === undefined) return;
    let hasRoom = stale.kind === 'labels';
    if (stale.kind === 'labels') for (const label of stale.labels) hasRoom = labels.add(label) && hasRoom;
    if (!hasRoom) this.#makeLabels();
  }

  #makeLabels(): void {
    const { view, broadcast } = this.#deps;
    // Changes are noted only once the names are there.
    void view.names;
    const hosts = Array.from(view.services(), ({ hostname }) => hostname);
    this.#labels = new MeshLabels(hosts, this.#settings.clusterDomain);
    broadcast({ type: 'meshLabels', bits: this.#labels.bits });
  }

  #clientOf(uid: string): DnsClient | undefined {
    const pod = this.#deps.podOf(uid);
    return pod === undefined ? undefined : this.#deps.view.workloadForPod(pod);
  }

  #decide(asker: DnsAsker, question: NeedDns, { namespace, network }: DnsClient): void {
    try {
      if (this.#labels === undefined) this.#makeLabels();
      const decision = resolveName(this.#deps.view, { namespace, network }, question.question, this.#settings);
      reply(asker, question, decision);
    } catch (thrown) {
      const what = errorText(thrown);
      this.#deps.log.error('Looking up a name failed on a bug, the resolvers of the node are asked', [
        ['domain', question.question.name],
        ['error', what],
      ]);
      reply(asker, question, { kind: 'forward', steps: [{ what }] });
    }
  }

  /** Whether the question may wait; nothing waits for a pod that is gone. */
  #letWait(asker: DnsAsker, question: NeedDns): boolean {
    const { uid } = question;
    if (this.#deps.podOf(uid) === undefined) return false;
    let pod = this.#unknown.get(uid);
    if (pod === undefined) {
      pod = { waiting: [], cancel: this.#deps.clock.after(UNKNOWN_POD_WAIT_MS, () => this.#giveUp(uid)) };
      this.#unknown.set(uid, pod);
    }
    if (pod.waiting === undefined || pod.waiting.length >= MAX_WAITING) return false;
    pod.waiting.push({ asker, question });
    return true;
  }

  #giveUp(uid: string): void {
    const pod = this.#unknown.get(uid);
    if (pod === undefined) return;
    const waiting = pod.waiting ?? [];
    pod.waiting = undefined;
    for (const { asker, question } of waiting) reply(asker, question, UNKNOWN_CLIENT);
  }
}

function reply(asker: DnsAsker, { id }: NeedDns, decision: DnsDecision): void {
  asker.send({ type: 'dnsDecision', id, decision });
}
