// One plaintext connection to the pod (port 15006): policies without an identity, then a plain copy to where it was going,
// with the client's address as source (outbound-inbound.md section 10). Fails closed: nothing is dialled before the verdict.
//
// Unlike upstream it refuses a destination that is not one of the pod's own addresses, since a packet that was misrouted
// here must not be carried on (outbound-inbound.md section 15, item 12).
import { authorize, type PolicySet, type ReasonCode, type SocketAddress } from '@ambit/mesh';
import { closeWithReset, familyOf, type Fd, localAddress, originalDestination, peerAddress } from '@ambit/native';
import { beginDial, dialReason, errnoText, failed, PlainSplice, type SpliceOwner, type StreamEnd } from '@ambit/proxy';
import { asMeshAddress } from './addresses.ts';
import {
  closed,
  type ConnectionFacts,
  nothingTold,
  ongoing,
  OPENED,
  type RecordOutcome,
  refused,
  wallNow,
} from './connection-facts.ts';
import type { ReadConnection } from './l7-desk.ts';
import type { LiveConnection, PodProxy } from './pod-proxy.ts';

export class PassthroughConnection implements LiveConnection, SpliceOwner {
  readonly #pod: PodProxy;
  readonly #facts: ConnectionFacts;
  readonly #target: SocketAddress;
  readonly #sinceMs: number;
  #client: Fd | undefined;
  #l7: ReadConnection | undefined;
  #splice: PlainSplice | undefined;
  #isClosed = false;

  private constructor(pod: PodProxy, client: Fd) {
    this.#pod = pod;
    this.#client = client;
    this.#sinceMs = pod.deps.engine.nowMs;
    this.#target = asMeshAddress(originalDestination(client) ?? localAddress(client));
    this.#facts = {
      id: pod.deps.nextId(),
      pod: pod.info.uid,
      direction: 'inbound',
      startedAtMs: wallNow(),
      protocol: 'TCP',
      source: asMeshAddress(peerAddress(client)),
      sourceWorkload: undefined,
      sourceIdentity: undefined,
      destination: this.#target,
      destinationWorkload: pod.summary,
      destinationIdentity: undefined,
      originalDestination: undefined,
      authority: undefined,
      service: undefined,
      tls: undefined,
      traceId: undefined,
      connectMs: undefined,
      policy: undefined,
      isCanary: false,
      told: nothingTold(),
    };
    pod.track(this);
  }

  static accept(pod: PodProxy, client: Fd): void {
    const connection = new PassthroughConnection(pod, client);
    if (pod.workload !== undefined) connection.#decide();
    else pod.awaitWorkload(() => connection.#decide());
  }

  #decide(): void {
    if (this.#isClosed) return;
    const pod = this.#pod;
    if (pod.deps.settings.illegalPorts.includes(this.#target.port)) {
      this.#refuse('route.loop', 'attempted recursive call to ourselves');
      return;
    }
    if (pod.workload === undefined) {
      this.#refuse('identity.unknown_source', pod.unknownWorkloadError);
      return;
    }
    this.#facts.destinationWorkload = pod.summary;
    const verdict = this.#authorize(pod.policies);
    this.#facts.policy = verdict.policy;
    if (!verdict.allowed) {
      this.#finish(failed(verdict.reason, verdict.error));
      return;
    }
    this.#dial();
  }

  #authorize(policies: PolicySet): ReturnType<typeof authorize> {
    const { source } = this.#facts;
    return authorize(policies, {
      sourceIp: source.ip,
      sourcePort: source.port,
      identity: undefined,
      destinationIp: this.#target.ip,
      destinationPort: this.#target.port,
    });
  }

  #dial(): void {
    const { sockets, isTransparent, deps } = this.#pod;
    const client = this.#client;
    if (client === undefined) return;
    const family = familyOf(this.#target.ip);
    const { source } = this.#facts;
    const asClient = isTransparent && source.ip !== this.#target.ip && familyOf(source.ip) === family;
    const dial = beginDial(
      () => (asClient ? sockets.openFrom(family, source.ip, 'transparent') : sockets.open(family)),
      this.#target,
    );
    if (dial.kind === 'failed') {
      this.#finish(failed(dial.reason, `io error: ${dial.error}`));
      return;
    }
    this.#client = undefined;
    this.#splice = new PlainSplice(deps.engine, client, dial.fd, this, deps.settings.connectTimeoutMs);
  }

  onUpstreamDialed(errno: number): void {
    const { deps } = this.#pod;
    if (errno !== 0) {
      this.#splice?.abort(failed(dialReason(errno), `io error: ${errnoText(errno)}`));
      return;
    }
    this.#facts.connectMs = deps.engine.nowMs - this.#sinceMs;
    this.#l7 = deps.l7.open(this.#facts, this.#pod.l7Choice, this.#target.port, 'client');
    if (this.#splice !== undefined) this.#splice.tap = this.#l7?.tap;
    deps.emit(this.#facts, OPENED);
  }

  onSpliceClosed(end: StreamEnd): void {
    this.#l7?.end(this.#splice?.firstToEnd === 'client');
    this.#finish(end);
  }

  cut(reason: ReasonCode, error: string): void {
    const end = failed(reason, error);
    if (this.#splice !== undefined) this.#splice.abort(end);
    else this.#finish(end);
  }

  get facts(): ConnectionFacts {
    return this.#facts;
  }

  progress(): RecordOutcome | undefined {
    const splice = this.#splice;
    return splice?.isOpen === true
      ? ongoing(splice.bytesToUpstream, splice.bytesToClient, splice.health, this.#l7?.refresh())
      : undefined;
  }

  recheck(policies: PolicySet): void {
    if (this.#splice === undefined) return; // not decided yet
    const verdict = this.#authorize(policies);
    if (verdict.allowed || !verdict.cutsLive) return;
    this.#facts.policy = verdict.policy;
    this.cut('policy.changed', 'connection closed due to policy change');
  }

  #refuse(reason: ReasonCode, error: string): void {
    this.#close();
    this.#pod.deps.emit(this.#facts, refused(reason, error));
  }

  #finish(end: StreamEnd): void {
    if (this.#isClosed) return;
    this.#close();
    const splice = this.#splice;
    this.#pod.deps.emit(
      this.#facts,
      closed(end, splice?.bytesToUpstream ?? 0, splice?.bytesToClient ?? 0, splice?.health, this.#l7),
    );
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#client !== undefined) closeWithReset(this.#client);
    this.#client = undefined;
    this.#pod.untrack(this);
  }
}
