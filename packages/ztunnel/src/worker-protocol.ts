// What the main thread and a data worker say to each other. Everything here survives structured cloning, so a message
// is plain data; file descriptors travel as numbers, since descriptors belong to the process and not to a thread.
// The main thread decides and remembers; a worker carries out. A worker may be replaced at any time, therefore main
// can always rebuild a worker's whole state by sending it again.
import type { MessagePort } from 'node:worker_threads';
import type { CompiledRouteInput, InboundRoute, OutboundRoute, Policy, SocketAddress, Workload } from '@ambit/mesh';
import type { ConnectionRecord, FrozenTunnel, PoolSettings, RequestRecord, TunnelSettings } from '@ambit/proxy';
import type { AdminFromWorker, AdminToWorker } from './admin/worker-questions.ts';
import type { DnsFromWorker, DnsProxySettings, DnsToWorker } from './dns/dns-messages.ts';

/** The configuration a worker needs, resolved once by the main thread. */
export interface WorkerSettings {
  readonly network: string;
  /** Address of the pod listeners: `::` (dual stack), `0.0.0.0`, or one local address (dedicated mode only). */
  readonly bindAddress: string;
  /** Whether hosts may be looked up, and reached, by IPv6. */
  readonly ipv6: boolean;
  /** Destination of connections made to the outbound port itself; undefined: they are refused as a loop. */
  readonly forward: SocketAddress | undefined;
  readonly ports: { readonly outbound: number; readonly inboundPlaintext: number; readonly inbound: number };
  /** Where the SOCKS5 port is, always on loopback: whoever reaches it speaks as the pod. undefined: off. */
  readonly socks5: SocketAddress | undefined;
  /** Ports that are the proxy's own and may not be reached through it. */
  readonly illegalPorts: readonly number[];
  /** SO_MARK of sockets; 0 for none. Listeners carry it only in shared mode. */
  readonly packetMark: number;
  readonly markListeners: boolean;
  readonly transparent: 'require' | 'try' | 'no';
  readonly reusePort: boolean;
  readonly backlog: number;
  /** undefined turns TCP keepalive off. */
  readonly keepAlive:
    | { readonly idleSeconds: number; readonly intervalSeconds: number; readonly probes: number }
    | undefined;
  readonly userTimeoutMs: number | undefined;
  readonly clientTunnel: TunnelSettings;
  readonly serverTunnel: TunnelSettings;
  readonly pool: PoolSettings;
  readonly responseBaggage: boolean;
  /** Whether anybody reads `open` records. Without them the next record of a connection tells of its opening. */
  readonly recordOpens: boolean;
  /** How long a connection waits for its local workload to become known. */
  readonly workloadWaitMs: number;
  /** Limit of each TCP connect to an application. */
  readonly connectTimeoutMs: number;
  readonly tlsRecords: 'own' | 'openssl';
  /** OpenSSL group list, or undefined for the default (hybrid post-quantum first). */
  readonly tlsGroups: string | undefined;
  readonly memoryBudgetBytes: number;
  readonly l7: L7Settings;
  /** undefined: no DNS proxy. */
  readonly dns: DnsProxySettings | undefined;
}

/** Which single requests somebody reads. */
export type RequestReaders = 'none' | 'traced' | 'all';

/** Reading requests: what holds where no annotation says otherwise, and what metrics are told of a request. */
export interface L7Settings {
  readonly isOn: boolean;
  /** Whether HTTP requests are counted by method, and by the template of their path. */
  readonly method: boolean;
  readonly path: boolean;
}

/** `workerData` of a data worker. */
export interface WorkerStart {
  readonly index: number;
  /** Descriptor number of the eventfd that announces messages; owned by the main thread. */
  readonly wakeFd: number;
  readonly port: MessagePort;
  readonly settings: WorkerSettings;
  /** The counters of the process's memory budget, shared by all workers. */
  readonly budget: SharedArrayBuffer;
  /** Where the worker notes its descriptors, so that they can be closed when it dies. */
  readonly fds: SharedArrayBuffer;
}

/** Which pod a proxy instance serves; `uid` is opaque (Kubernetes pod UID, or a fixed word in dedicated mode). */
export interface PodInfo {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The text of its annotation `ambit.io/l7`, as it was written; absent: none. Changes while the pod runs. */
  readonly l7?: string | undefined;
}

/** A certificate as the workers need it: PEM texts, leaf first, then intermediates; roots apart. */
export interface CertificateMaterial {
  readonly identity: string;
  readonly certChainPem: string;
  readonly privateKeyPem: string;
  readonly rootsPem: string;
}

export type ToWorker =
  | AdminToWorker
  | DnsToWorker
  /** Open this pod's listeners inside the namespace `netnsFd` refers to (main keeps owning that fd until `podClosed`); undefined means the process's own namespace. */
  | { readonly type: 'podAdd'; readonly pod: PodInfo; readonly netnsFd: number | undefined }
  /** What is said of an open pod changed, but not who it is. */
  | { readonly type: 'podInfo'; readonly pod: PodInfo }
  /** Close listeners; graceful lets connections finish until `deadlineMs`, immediate cuts them. */
  | {
      readonly type: 'podRemove';
      readonly uid: string;
      readonly mode: 'graceful' | 'immediate';
      readonly deadlineMs: number;
    }
  /** The pod's own workload record (undefined while unknown) and the policies that apply to it; replaces what was sent before. */
  | {
      readonly type: 'podState';
      readonly uid: string;
      readonly workload: Workload | undefined;
      readonly policies: readonly Policy[];
    }
  /**
   * New or renewed certificate for an identity, or why there is no valid one; neither: nobody needs it any more.
   * Established connections are not touched.
   */
  | {
      readonly type: 'certificate';
      readonly identity: string;
      readonly material: CertificateMaterial | undefined;
      readonly error: string | undefined;
    }
  /** The revoked certificates, all of them (`certificateKey` of @ambit/native); established tunnels of such peers are cut. */
  | { readonly type: 'revocations'; readonly keys: readonly string[] }
  /** Every cached route is stale. Established connections are not touched. */
  | { readonly type: 'forgetRoutes' }
  | { readonly type: 'outboundRoute'; readonly id: number; readonly route: OutboundRoute }
  | { readonly type: 'inboundRoute'; readonly id: number; readonly route: InboundRoute }
  /** Stop accepting, GOAWAY, let connections finish until the deadline, then force; answer `drained`. */
  | { readonly type: 'drain'; readonly deadlineMs: number }
  /** Hand every live tunnel to main as data (answer `frozen` messages, then `frozenAll`). */
  | { readonly type: 'freezeAll' }
  | { readonly type: 'adopt'; readonly tunnel: FrozenTunnel }
  /** Hand over live tunnels that made up to `share` (0 to 1) of what moved since the last such message; `frozen` follows for each. */
  | { readonly type: 'shed'; readonly share: number }
  | { readonly type: 'stats'; readonly id: number }
  /** Tell all that live connections have carried and nobody has heard of, then answer `told`. */
  | { readonly type: 'tell'; readonly id: number }
  /** One `records` message was taken; a worker that gets too far ahead drops records instead of queueing them. */
  | { readonly type: 'recordsTaken' }
  /** Which single requests somebody reads from now on: none, those with a trace, or all. */
  | { readonly type: 'requestReaders'; readonly readers: RequestReaders }
  /** One `requests` message was taken. */
  | { readonly type: 'requestsTaken' }
  | { readonly type: 'stop' };

export type FromWorker =
  | AdminFromWorker
  | DnsFromWorker
  | { readonly type: 'ready' }
  /** All listeners of the pod are open, or none is and `error` says why (code is a reason code). */
  | {
      readonly type: 'podOpened';
      readonly uid: string;
      readonly error: { readonly code: string; readonly message: string } | undefined;
      readonly transparent: boolean;
    }
  /** The last connection of a removed pod ended; main may close the namespace's fd. */
  | { readonly type: 'podClosed'; readonly uid: string }
  | {
      readonly type: 'needOutboundRoute';
      readonly id: number;
      readonly uid: string;
      readonly input: CompiledRouteInput;
    }
  | {
      readonly type: 'needInboundRoute';
      readonly id: number;
      readonly uid: string;
      readonly connectedIp: string;
      readonly connectedPort: number;
      readonly authority: string;
    }
  /** A connection failed because the identity has no certificate; told at most twice a second. */
  | { readonly type: 'missCertificate'; readonly identity: string }
  | { readonly type: 'records'; readonly records: readonly ConnectionRecord[] }
  | { readonly type: 'requests'; readonly requests: readonly RequestRecord[] }
  | { readonly type: 'told'; readonly id: number }
  | { readonly type: 'frozen'; readonly tunnel: FrozenTunnel }
  | { readonly type: 'frozenAll' }
  | { readonly type: 'stats'; readonly id: number; readonly stats: Readonly<Record<string, number>> }
  | { readonly type: 'drained' };
