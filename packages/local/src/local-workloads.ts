// The workloads of this machine, as the node agent's source of pods. A workload lives as long as its first process: that
// waits in a fresh network namespace while `create` gives it a link, a name and a place in the mesh, and goes on only then,
// so nothing of it is ever sent unseen. When it ends, however it ends, everything of it goes: found by looking every half
// second, since an agent that was started again is nobody's parent.
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AgentPod, PodNamespace, PodSource, PodSourceEvents, RedirectionStatus } from '@ambit/cni';
import { errorText, type Log } from '@ambit/log';
import type { LocalPaths } from './directories.ts';
import { LocalError } from './errors.ts';
import { clearWorkload, etcOf, until } from './leftovers.ts';
import { LocalServices } from './local-services.ts';
import { HOST_NUMBER, addressOf, NumberPool } from './net/address-plan.ts';
import type { HostNetwork } from './net/host-network.ts';
import { connectWorkload, hostInterfaceOf, removeLink, strayLinks, workloadAddresses } from './net/workload-network.ts';
import { podLabels, workloadIps } from './objects.ts';
import type { ObjectsFile } from './objects-file.ts';
import {
  identifyProcess,
  isAlive,
  netnsNameOf,
  ownerOf,
  type ProcessIdentity,
  signalProcess,
} from './process-identity.ts';
import { PortForwarder } from './published-port.ts';
import { Registry } from './registry.ts';
import { hostsFile, resolvConf } from './resolver-files.ts';
import { type PublishedPort, type Workload, workloadKey, type WorkloadRequest } from './workload.ts';

export interface LocalWorkloadsDeps {
  readonly paths: LocalPaths;
  readonly network: HostNetwork;
  readonly objects: ObjectsFile;
  readonly log: Log;
}

export interface LocalWorkloadsOptions {
  /** Users whose processes may become workloads. */
  readonly allowedUids: readonly number[];
  readonly clusterDomain: string;
  /** How long a workload waits to be protected before it is given up. Default 20 000. */
  readonly enrolTimeoutMs?: number;
}

interface Entry {
  readonly workload: Workload;
  readonly pod: AgentPod;
  readonly forwarders: PortForwarder[];
  status: RedirectionStatus;
  /** Whether the agent ever said how it stands. */
  isJudged: boolean;
  ending: Promise<void> | undefined;
}

export interface WorkloadView extends Workload {
  readonly status: RedirectionStatus;
}

const ENROL_TIMEOUT_MS = 20_000;
const WATCH_PERIOD_MS = 500;
/** Between the polite signal and the one that cannot be ignored. */
const GRACE_MS = 5_000;
const HOST_RESOLV = '/etc/resolv.conf';
/** Where systemd-resolved names the resolvers behind its own at 127.0.0.53. */
const REAL_RESOLV = '/run/systemd/resolve/resolv.conf';
const OBJECTS_PART = 'workloads';

export class LocalWorkloads implements PodSource {
  readonly #deps: LocalWorkloadsDeps;
  readonly #options: LocalWorkloadsOptions;
  readonly #registry: Registry;
  readonly #numbers = NumberPool.workloads();
  readonly #services: LocalServices;
  /** By `namespace/name`. */
  readonly #entries = new Map<string, Entry>();
  /** Names that are being created. */
  readonly #reserved = new Set<string>();
  readonly #judged = new Map<string, () => void>();
  #events: PodSourceEvents | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(deps: LocalWorkloadsDeps, options: LocalWorkloadsOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#registry = new Registry(deps.paths.workloads, deps.log);
    this.#services = new LocalServices(deps.network);
  }

  /** Takes up the workloads that still run, and collects what is left of others. */
  readonly start = async (events: PodSourceEvents): Promise<void> => {
    const found = this.#registry.load();
    for (const workload of found) this.#numbers.reserve(workload.number);
    const [alive, dead] = [found.filter(isRunning), found.filter(each => !isRunning(each))];
    await Promise.all(alive.map(async workload => this.#take(workload)));
    await Promise.all(dead.map(async workload => this.#clear(workload)));
    for (const name of strayLinks(new Set(alive.map(({ hostInterface }) => hostInterface)))) removeLink(name);
    this.#writeObjects();
    this.#events = events;
    this.#timer = setInterval(() => this.#collect(), WATCH_PERIOD_MS);
  };

  readonly pods = (): Iterable<AgentPod> => [...this.#entries.values()].map(({ pod }) => pod);

  readonly pod = (namespace: string, name: string): AgentPod | undefined =>
    this.#entries.get(`${namespace}/${name}`)?.pod;

  /** Every namespace exists here; membership is each workload's own label. */
  readonly namespace = (name: string): PodNamespace => ({ name, labels: {} });

  readonly setStatus = async (pod: AgentPod, status: RedirectionStatus): Promise<void> => {
    const entry = this.#entries.get(workloadKey(pod));
    if (entry === undefined || entry.workload.uid !== pod.uid) return;
    entry.status = status;
    entry.isJudged = true;
    this.#writeObjects();
    if (status === 'enabled') this.#judged.get(pod.uid)?.();
  };

  /** Leaves the workloads as they are, for the next agent. */
  readonly close = async (): Promise<void> => {
    clearInterval(this.#timer);
    for (const { forwarders } of this.#entries.values()) for (const forwarder of forwarders) forwarder.close();
  };

  /** In the order of their names. */
  list(): WorkloadView[] {
    const names = [...this.#entries.keys()].toSorted();
    return names.flatMap(name => {
      const entry = this.#entries.get(name);
      return entry === undefined ? [] : [{ ...entry.workload, status: entry.status }];
    });
  }

  /**
   * Resolves when the workload has its network and, as a member, is protected: then its process may go on.
   * @param caller user who asks: others than root may offer their own processes only, and no ports that are root's
   * @throws local.name_taken, local.workload_gone, local.foreign_network, local.addresses_used_up, local.network,
   *   local.port_taken, local.rights, local.service_conflict, local.not_enrolled; nothing is left then
   */
  async create(request: WorkloadRequest, caller: number): Promise<Workload> {
    const key = workloadKey(request);
    if (caller !== 0 && request.publisher === 'agent') checkPorts(request.publish);
    if (this.#events === undefined) throw new LocalError('local.not_up', 'the agent has not begun yet');
    if (this.#entries.has(key) || this.#reserved.has(key)) {
      throw new LocalError('local.name_taken', `there is a workload ${key} already`, {
        next: `choose another --name, or end it: ambit ps`,
      });
    }
    this.#services.check(
      request,
      [...this.#entries.values()].map(({ workload }) => workload),
    );
    this.#reserved.add(key);
    const number = this.#numbers.take();
    let isTaken = false;
    try {
      const workload = this.#describe(request, number, caller);
      connectWorkload(this.#deps.network, netnsPathOf(workload), workload);
      this.#writeFiles(workload);
      this.#registry.save(workload);
      isTaken = true;
      const entry = await this.#take(workload);
      this.#writeObjects();
      this.#events.onPod(entry.pod, undefined);
      if (workload.isMember) await this.#protected(entry);
      this.#deps.log.info('A workload joined', { workload: key, ip: workload.ip4, pid: workload.process.pid });
      return workload;
    } catch (error) {
      const entry = this.#entries.get(key);
      if (entry === undefined) {
        // Somebody ended it meanwhile: then its number may be another's by now.
        if (!isTaken) this.#undo(request, number);
      } else await this.#end(entry, 'SIGKILL').catch((cause: unknown) => this.#cannotClear(entry, cause));
      throw error;
    } finally {
      this.#reserved.delete(key);
    }
  }

  /** Ends a workload's processes, politely first, and everything else of it. @throws local.unknown_workload, local.rights */
  async stop(namespace: string, name: string, caller: number): Promise<void> {
    const entry = this.#entries.get(`${namespace}/${name}`);
    if (entry === undefined) {
      throw new LocalError('local.unknown_workload', `there is no workload ${namespace}/${name}`, { next: 'ambit ps' });
    }
    const owner = ownerOf(entry.workload.process.pid);
    if (caller !== 0 && owner !== undefined && owner !== caller) throw notYours(`workload ${namespace}/${name}`);
    await this.#end(entry, 'SIGTERM');
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#entries.values()].map(async entry => this.#end(entry, 'SIGTERM')));
  }

  #undo(request: WorkloadRequest, number: number): void {
    removeLink(hostInterfaceOf(number));
    this.#numbers.release(number);
    this.#registry.forget(request);
  }

  #describe(request: WorkloadRequest, number: number, caller: number): Workload {
    const { pid, runnerPid, ...rest } = request;
    const process = this.#allowedProcess(pid, caller);
    const runner = this.#allowedProcess(runnerPid, caller);
    const netnsName = netnsNameOf(pid);
    if (netnsName === undefined) throw gone();
    return {
      ...rest,
      uid: randomUUID(),
      process,
      runner,
      netnsName,
      number,
      ...workloadAddresses(this.#deps.network, number),
      hostInterface: hostInterfaceOf(number),
      createdAt: new Date().toISOString(),
    };
  }

  /** Root's services with networks of their own would be connected, and killed, by whoever may name their processes. */
  #allowedProcess(pid: number, caller: number): ProcessIdentity {
    const identity = identifyProcess(pid);
    const owner = ownerOf(pid);
    if (identity === undefined || owner === undefined) throw gone();
    if (this.#options.allowedUids.includes(owner) && (caller === 0 || caller === owner)) return identity;
    throw notYours(`process ${pid}`);
  }

  /** Publishes its ports and counts it in. @throws local.port_taken */
  async #take(workload: Workload): Promise<Entry> {
    const entry: Entry = {
      workload,
      pod: podOf(workload),
      forwarders: [],
      status: undefined,
      isJudged: false,
      ending: undefined,
    };
    this.#numbers.reserve(workload.number);
    this.#entries.set(workloadKey(workload), entry);
    if (workload.publisher === 'runner') return entry;
    for (const port of workload.publish) entry.forwarders.push(await PortForwarder.open(port, workload.ip4));
    return entry;
  }

  async #protected(entry: Entry): Promise<void> {
    if (entry.status === 'enabled') return;
    const { workload } = entry;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#judged.set(workload.uid, resolve);
    const timeoutMs = this.#options.enrolTimeoutMs ?? ENROL_TIMEOUT_MS;
    const timer = setTimeout(() => {
      reject(
        new LocalError('local.not_enrolled', `${workloadKey(workload)} is not protected after ${timeoutMs / 1000} s`, {
          next: 'ambit up says which part is not well; --no-mesh starts it outside the mesh',
        }),
      );
    }, timeoutMs);
    const watch = setInterval(() => {
      if (!isRunning(workload)) reject(gone());
    }, WATCH_PERIOD_MS);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      clearInterval(watch);
      this.#judged.delete(workload.uid);
    }
  }

  #writeFiles(workload: Workload): void {
    const { paths, network } = this.#deps;
    const { clusterDomain } = this.#options;
    const facts = {
      hostText: readIfThere(HOST_RESOLV) ?? '',
      realText: readIfThere(REAL_RESOLV),
      hostIp: addressOf(network.subnets, HOST_NUMBER).ip4,
      clusterDomain,
    };
    const directory = etcOf(paths, workload);
    // Everybody may read them, as the files they stand for.
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    writeFileSync(join(directory, 'resolv.conf'), resolvConf(workload, facts), { mode: 0o644 });
    writeFileSync(join(directory, 'hosts'), hostsFile(workload, clusterDomain), { mode: 0o644 });
  }

  #collect(): void {
    for (const entry of this.#entries.values()) {
      if (entry.ending !== undefined || this.#reserved.has(workloadKey(entry.workload))) continue;
      if (isRunning(entry.workload)) continue;
      void this.#end(entry, 'SIGKILL').catch((cause: unknown) => this.#cannotClear(entry, cause));
    }
  }

  #cannotClear(entry: Entry, cause: unknown): void {
    const workload = workloadKey(entry.workload);
    this.#deps.log.error('Cannot clear up after a workload yet', { workload, error: errorText(cause) });
  }

  /** One at a time; what fails is tried again by the next look, or whoever asks. */
  async #end(entry: Entry, first: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    entry.ending ??= this.#endOnce(entry, first).catch((error: unknown) => {
      entry.ending = undefined;
      throw error;
    });
    await entry.ending;
  }

  async #endOnce(entry: Entry, first: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const { workload, pod } = entry;
    const key = workloadKey(workload);
    if (first === 'SIGTERM' && isAlive(workload.process)) {
      signalProcess(workload.process.pid, 'SIGTERM');
      await until(() => !isAlive(workload.process), GRACE_MS);
    }
    for (const forwarder of entry.forwarders) forwarder.close();
    await this.#clear(workload);
    this.#entries.delete(key);
    this.#events?.onPodGone(pod);
    this.#writeObjects();
    this.#deps.log.info('A workload is gone', { workload: key });
  }

  /** What is left of a workload that has ended: processes in its network, its link, its files. */
  async #clear(workload: Workload): Promise<void> {
    await clearWorkload(this.#deps.paths, this.#registry, workload);
    this.#numbers.release(workload.number);
  }

  #writeObjects(): void {
    const entries = [...this.#entries.values()];
    const workloads = entries.map(({ workload }) => workload);
    this.#deps.objects.set(OBJECTS_PART, {
      pods: entries.map(({ workload, pod, status, isJudged }) => ({
        ...pod,
        ips: workloadIps(workload),
        createdAt: workload.createdAt,
        // Nothing runs in it before it is protected, so that may be said ahead: whoever calls it first finds it in the mesh.
        status: isJudged ? status : workload.isMember ? 'enabled' : undefined,
      })),
      headless: workloads,
      services: this.#services.of(workloads),
    });
  }
}

function podOf(workload: Workload): AgentPod {
  const { uid, name, namespace, serviceAccount } = workload;
  return {
    uid,
    name,
    namespace,
    serviceAccount,
    labels: podLabels(workload),
    annotations: {},
    hostNetwork: false,
    ips: workloadIps(workload),
    phase: 'Running',
    netnsPath: netnsPathOf(workload),
  };
}

function netnsPathOf({ process }: Workload): string {
  return `/proc/${process.pid}/ns/net`;
}

/** A workload whose runner was killed has nobody who passes on its output or its end. */
function isRunning({ process, runner }: Workload): boolean {
  return isAlive(process) && isAlive(runner);
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** The kernel's own bound for ordinary users: the agent, who listens for them, has none. @throws local.rights */
function checkPorts(ports: readonly PublishedPort[]): void {
  const first = Number(readIfThere('/proc/sys/net/ipv4/ip_unprivileged_port_start') ?? 1024);
  const low = ports.find(({ hostPort }) => hostPort < first);
  if (low === undefined) return;
  throw new LocalError('local.rights', `port ${low.hostPort} of this machine is for root to publish`, {
    next: `use sudo, or a port from ${first}: --publish ${Math.max(first, 8000) + (low.hostPort % 1000)}:${low.port}`,
  });
}

function notYours(what: string): LocalError {
  return new LocalError('local.rights', `${what} belongs to another user`, { next: 'use sudo' });
}

function gone(): LocalError {
  return new LocalError('local.workload_gone', 'the workload ended before it was in the mesh');
}
