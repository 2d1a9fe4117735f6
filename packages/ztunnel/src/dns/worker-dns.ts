// The DNS proxy's parts that all pods of a worker share: decisions, resolvers, buffers, records for the log; and looking up
// addresses on the node's behalf. No part of it waits for the main thread.
import type { DnsDecision, IpFamily, StaleNames } from '@ambit/mesh';
import { openTcp, openUdp, UdpBatch } from '@ambit/native';
import type { Engine } from '@ambit/proxy';
import { RecordBatch } from '../worker/record-batch.ts';
import { CountReports } from './count-reports.ts';
import type { DnsFromWorker, DnsProxySettings, DnsRecord, Resolver, ResolverSet } from './dns-messages.ts';
import { Forwarder } from './forwarder.ts';
import { addressQuery, type HostAddresses, hostAddresses } from './host-addresses.ts';
import { LabelFilter } from './mesh-labels.ts';
import { NameDecisions } from './name-decisions.ts';
import { NodePlaces } from './node-share.ts';
import { ResolverSockets } from './resolver-sockets.ts';
import { MAX_QUERY_BYTES } from './codec/query.ts';
import { RECEIVED_AT_ONCE } from './udp-listener.ts';
import { UdpOutput } from './udp-output.ts';

export interface WorkerDnsDeps {
  readonly engine: Engine;
  readonly settings: DnsProxySettings | undefined;
  readonly tell: (message: DnsFromWorker) => void;
}

/** Who follows a change of the resolvers. */
export interface ResolverFollower {
  setResolvers(set: ResolverSet): void;
}

const MAX_ANSWER_BYTES = 65_535;

export class WorkerDns {
  readonly engine: Engine;
  settings: DnsProxySettings | undefined;
  readonly decisions: NameDecisions;
  readonly input = UdpBatch.allocate(RECEIVED_AT_ONCE, MAX_QUERY_BYTES);
  readonly output: UdpOutput;
  /** Where answers are written before they are sent; never held across calls. */
  readonly answer = Buffer.allocUnsafeSlow(MAX_ANSWER_BYTES);
  readonly counts: CountReports;
  /** To resolvers on loopback, for all pods: the sockets are the node's. */
  readonly nodeSockets: ResolverSockets;
  readonly nodePlaces = new NodePlaces();
  readonly #records: RecordBatch<DnsRecord>;
  readonly #followers = new Set<ResolverFollower>();
  readonly #ownForwarder: Forwarder;
  #labels: LabelFilter | undefined;
  #resolvers: ResolverSet | undefined;
  #unsolicited = 0;

  constructor(deps: WorkerDnsDeps) {
    const { engine, settings, tell } = deps;
    this.engine = engine;
    this.settings = settings;
    this.output = new UdpOutput(engine);
    this.decisions = new NameDecisions((id, uid, question) => tell({ type: 'needDns', id, uid, question }));
    this.#records = new RecordBatch(engine, records => tell({ type: 'dnsRecords', records }));
    this.counts = new CountReports(engine, counts => tell({ type: 'dnsCounts', counts }));
    this.nodeSockets = new ResolverSockets({ engine, onUnsolicited: () => this.#unsolicited++ });
    const familyOf = ({ ip }: Resolver): 'ipv4' | 'ipv6' => (ip.includes(':') ? 'ipv6' : 'ipv4');
    this.#ownForwarder = new Forwarder(
      {
        engine,
        openUdp: resolver => openUdp(familyOf(resolver)),
        openTcp: resolver => openTcp(familyOf(resolver)),
        onUnsolicited: () => this.#unsolicited++,
      },
      undefined,
    );
    this.#followers.add(this.#ownForwarder);
  }

  /** Whether somebody reads what was answered. */
  setRecordQueries(isWanted: boolean): void {
    if (this.settings !== undefined) this.settings = { ...this.settings, recordQueries: isWanted };
  }

  /** Where to forward, as last told; undefined before that. */
  get resolvers(): ResolverSet | undefined {
    return this.#resolvers;
  }

  setResolvers(set: ResolverSet): void {
    this.#resolvers = set;
    this.nodeSockets.renew();
    for (const follower of this.#followers) follower.setResolvers(set);
  }

  /** Hears of each change until `unfollow`. */
  follow(follower: ResolverFollower): void {
    this.#followers.add(follower);
  }

  unfollow(follower: ResolverFollower): void {
    this.#followers.delete(follower);
  }

  /** Which names may be the mesh's, as last told; undefined before that. */
  get labels(): LabelFilter | undefined {
    return this.#labels;
  }

  setLabels(bits: SharedArrayBuffer): void {
    this.#labels = new LabelFilter(bits);
  }

  onDecision(id: number, decision: DnsDecision): void {
    this.decisions.answer(id, decision);
  }

  forget(stale: StaleNames): void {
    this.decisions.forget(stale);
  }

  /** Tells of an answered question, if anybody listens. */
  record(record: DnsRecord): void {
    this.#records.add(record);
  }

  recordsTaken(): void {
    this.#records.acknowledge();
  }

  /**
   * Addresses of a host, asked of the node's resolvers from the process's own network and never of the mesh. `then` is called
   * once, perhaps before this returns. Nothing is kept: `ttlSeconds` says how long the caller may.
   */
  resolveHost(host: string, family: IpFamily, then: (found: HostAddresses) => void): void {
    const message = addressQuery(host, family);
    if (message === undefined) {
      then({ kind: 'failed', error: `${host} is not a host name` });
      return;
    }
    const question = { message, questionEnd: message.length, wantsWhole: true };
    this.#ownForwarder.ask(question, outcome => then(hostAddresses(host, family, outcome)));
  }

  stats(): Record<string, number> {
    return {
      dnsDecisions: this.decisions.size,
      dnsDecisionsAsked: this.decisions.askingCount,
      dnsHostLookups: this.#ownForwarder.size,
      dnsNodeUnsolicited: this.#unsolicited,
      dnsNodeQuestions: this.nodePlaces.taken,
      dnsNodeSockets: this.nodeSockets.size,
      dnsUnsent: this.output.unsent,
      dnsDroppedRecords: this.#records.dropped,
    };
  }

  close(): void {
    this.#ownForwarder.close('the proxy ends');
    this.nodeSockets.close();
    this.#records.flush();
    this.counts.tell();
    this.output.close();
    this.input.slab.close();
  }
}
