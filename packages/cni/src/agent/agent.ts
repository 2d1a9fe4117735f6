// The node agent, wired: sources, enrolment, the sockets of ztunnel, plugins and admin, health and metrics. Starts in the order
// that keeps promises: what runs is known before a ztunnel is let in, and plugins are answered after that.
import { Reactor } from '@ambit/native';
import { faultText, type Log } from '@ambit/log';
import type { AuditSubject } from '../audit/audit-types.ts';
import type { AgentConfig } from '../config/config.ts';
import { NetnsFinder } from '../netns/netns-finder.ts';
import type { RedirectBackend } from '../redirect/redirect-plan.ts';
import type { PodSource } from '../sources/pod-source.ts';
import { ZdsServer } from '../zds/zds-server.ts';
import { ADMIN_SOCKET, type AdminRoute, agentRoutes, openAdmin } from './admin.ts';
import { createAuditSubject } from './audit-subject.ts';
import { createCniHooks } from './cni-hooks.ts';
import { HttpDoor, plain } from './doors/http-door.ts';
import { PluginDoor } from './doors/plugin-door.ts';
import { Enrolment } from './enrolment.ts';
import { FailModeKeeper } from './fail-mode.ts';
import type { CniHooks } from './hooks.ts';
import { type Metric, METRICS_TYPE, type MetricSource, renderMetrics } from './metrics.ts';
import { PodRegistry } from './pod-registry.ts';
import type { ProbeSet } from './probe-set.ts';
import { StatusWriter } from './status-writer.ts';

/** What other parts of an agent build on. */
export interface AgentParts {
  readonly audit: AuditSubject;
  readonly hooks: CniHooks;
  readonly backend: RedirectBackend;
  readonly enrolment: Enrolment;
  readonly log: Log;
  /** Ends with the agent. */
  readonly signal: AbortSignal;
}

/** A part that lives in the agent: the audit, the installer, this machine's mesh. */
export interface AgentExtension {
  readonly routes?: AdminRoute;
  readonly metrics?: MetricSource;
  /** Why the node is not ready yet, as far as this part goes; undefined: it is. */
  readonly notReady?: () => string | undefined;
  readonly close?: () => Promise<void>;
}

export interface AgentDeps {
  readonly sources: readonly PodSource[];
  readonly backend: RedirectBackend;
  /** undefined: nobody probes pods here. */
  readonly probes: ProbeSet | undefined;
  readonly log: Log;
  /** Made once the agent enrols pods, in this order, and closed in reverse. */
  readonly extensions?: readonly ((parts: AgentParts) => Promise<AgentExtension> | AgentExtension)[];
}

const MAX_PORT_CONNECTIONS = 64;
const PORT_TIMEOUT_MS = 10_000;

export class Agent implements AsyncDisposable {
  readonly #config: AgentConfig;
  readonly #deps: AgentDeps;
  readonly #log: Log;
  readonly #reactor = new Reactor();
  readonly #registry: PodRegistry;
  readonly #status: StatusWriter;
  readonly #zds: ZdsServer;
  readonly #failMode: FailModeKeeper;
  readonly #enrolment: Enrolment;
  readonly #audit: AuditSubject;
  readonly #hooks: CniHooks;
  readonly #extensions: AgentExtension[] = [];
  readonly #closers = new AsyncDisposableStack();
  readonly #ending = new AbortController();
  /** By `response_code` of Istio's counter. */
  readonly #pluginAnswers = new Map<number, number>();
  readonly #startedAt = new Date();
  #isServing = false;

  private constructor(config: AgentConfig, deps: AgentDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#log = deps.log;
    const { backend, probes, log } = deps;
    this.#registry = new PodRegistry(deps.sources);
    this.#status = new StatusWriter(async (uid, status) => this.#registry.setStatus(uid, status), log.scope('status'));
    this.#zds = new ZdsServer(this.#reactor, config.zdsSocket, {
      answerTimeoutMs: config.ztunnelTimeout,
      log: log.scope('zds'),
      events: {
        onAnswer: (uid, error) => this.#enrolment.onAnswer(uid, error),
        onConnections: () => this.#failMode.update(),
      },
    });
    this.#enrolment = new Enrolment(
      {
        registry: this.#registry,
        zds: this.#zds,
        backend,
        probes,
        finder: new NetnsFinder(`${config.hostRoot}/proc`, log.scope('netns')),
        status: this.#status,
        log: log.scope('enrol'),
      },
      {
        rules: { selectors: config.selectors, excludedNamespaces: config.excludeNamespaces },
        plan: {
          dnsCapture: config.dnsCapture,
          ipv6: config.ipv6,
          probeSnat: { ip: config.probeIp, ip6: config.probeIp6 },
        },
        systemNamespace: config.systemNamespace,
        hostRoot: config.hostRoot,
        reconcileAtStart: config.reconcileAtStart,
        answerTimeoutMs: config.ztunnelTimeout,
      },
    );
    this.#failMode = new FailModeKeeper(
      { ztunnels: () => this.#zds.synced, setLifted: is => this.#enrolment.setLifted(is), log },
      config.failMode,
      config.failOpenAfter,
    );
    const shared = { registry: this.#registry, enrolment: this.#enrolment, zds: this.#zds };
    this.#audit = createAuditSubject({ ...shared, probes });
    this.#hooks = createCniHooks({ ...shared, backend, isLifted: () => this.#failMode.isLifted });
  }

  /** @throws CniError when a source, a socket or a rule of the host cannot be had; what was opened is closed again */
  static async start(config: AgentConfig, deps: AgentDeps, signal: AbortSignal): Promise<Agent> {
    const agent = new Agent(config, deps);
    try {
      await agent.#start(signal);
    } catch (error) {
      await agent.close();
      throw error;
    }
    return agent;
  }

  /** Why pods of the mesh could not start now, or the plugin is not installed; undefined: all is well. */
  get notReady(): string | undefined {
    if (!this.#isServing) return 'starting';
    for (const { notReady } of this.#extensions) {
      const why = notReady?.();
      if (why !== undefined) return why;
    }
    return undefined;
  }

  /** Number of ztunnels that hold a snapshot. */
  get ztunnels(): number {
    return this.#zds.synced;
  }

  /** Lets go of everything; rules and status of pods stay, so that members stay protected. Closing twice is fine. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#closers.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #start(signal: AbortSignal): Promise<void> {
    const { runDirectory, bindAddress, healthPort, monitoringPort } = this.#config;
    const closers = this.#closers;
    this.#poll();
    await this.#openPort(bindAddress, monitoringPort, path => this.#metrics(path));
    await this.#openPort(bindAddress, healthPort, path => this.#health(path));
    closers.defer(() => this.#status.close());
    closers.defer(async () => this.#registry.close());
    closers.defer(async () => this.#enrolment.close());
    // Before enrolment, so that nothing waits for answers any more.
    closers.defer(() => this.#zds.close());
    closers.defer(() => this.#failMode.close());
    await this.#enrolment.start(signal);
    this.#zds.listen();
    this.#failMode.update();
    const plugins = await PluginDoor.open({
      runDirectory,
      reactor: this.#reactor,
      hooks: this.#hooks,
      log: this.#log.scope('plugin'),
      onAnswered: status => this.#pluginAnswers.set(status, (this.#pluginAnswers.get(status) ?? 0) + 1),
    });
    closers.defer(async () => plugins.close());
    await this.#extend();
    const routes = this.#extensions.flatMap(({ routes: own }) => own ?? []);
    const own = agentRoutes({ audit: this.#audit, enrolment: this.#enrolment, status: () => this.#describe() });
    const path = `${runDirectory}/${ADMIN_SOCKET}`;
    const admin = await openAdmin({ path, routes: [own, ...routes], log: this.#log.scope('admin') });
    closers.defer(async () => admin.close());
    this.#isServing = true;
  }

  async #extend(): Promise<void> {
    const parts: AgentParts = {
      audit: this.#audit,
      hooks: this.#hooks,
      backend: this.#deps.backend,
      enrolment: this.#enrolment,
      log: this.#log,
      signal: this.#ending.signal,
    };
    for (const make of this.#deps.extensions ?? []) {
      const extension = await make(parts);
      this.#extensions.push(extension);
      this.#closers.defer(async () => extension.close?.());
    }
  }

  /** Runs the handlers of ztunnel's sockets. An error that one of them lets through is a bug, and ends the agent. */
  #poll(): void {
    const running = { is: true };
    const polled = (async () => {
      while (running.is) await this.#reactor.pollAsync(-1);
    })();
    polled.catch((error: unknown) => {
      this.#log.error('Fault in the ztunnel socket', { error: faultText(error) });
      process.exitCode = 1;
      process.kill(process.pid, 'SIGTERM');
    });
    this.#closers.defer(async () => {
      running.is = false;
      this.#reactor.close();
      await polled.catch(() => undefined);
    });
  }

  async #openPort(host: string, port: number, answer: (path: string) => ReturnType<typeof plain>): Promise<void> {
    if (port === 0) return;
    const door = await HttpDoor.open({
      where: { host, port },
      maxBodyBytes: 0,
      maxConnections: MAX_PORT_CONNECTIONS,
      timeoutMs: PORT_TIMEOUT_MS,
      log: this.#log,
      answer: ({ method, path }) => (method === 'GET' || method === 'HEAD' ? answer(path) : plain(405, 'GET\n')),
    });
    this.#closers.defer(async () => door.close());
  }

  #health(path: string): ReturnType<typeof plain> {
    if (path === '/healthz') return plain(200, 'ok\n');
    if (path !== '/readyz') return plain(404, '/healthz\n/readyz\n');
    const why = this.notReady;
    return why === undefined ? plain(200, 'ok\n') : plain(503, `${why}\n`);
  }

  #metrics(path: string): ReturnType<typeof plain> {
    if (path !== '/metrics') return plain(404, '/metrics\n');
    const sources = [() => this.#ownMetrics(), ...this.#extensions.flatMap(({ metrics }) => metrics ?? [])];
    return { status: 200, type: METRICS_TYPE, text: renderMetrics(sources) };
  }

  *#ownMetrics(): Iterable<Metric> {
    const { add, update, delete: gone, enrolled, removed, failed } = this.#enrolment.counters;
    yield {
      name: 'nodeagent_reconcile_events_total',
      help: 'Pods looked at anew, by what happened to them.',
      type: 'counter',
      samples: Object.entries({ add, update, delete: gone }).map(([type, value]) => ({ labels: { type }, value })),
    };
    yield gauge('ztunnel_connected', 'Ztunnels that are connected.', this.#zds.connections);
    yield {
      name: 'istio_cni_plugin_requests_total',
      help: 'Requests of CNI plugins, by answer.',
      type: 'counter',
      samples: [...this.#pluginAnswers].map(([code, value]) => ({ labels: { response_code: String(code) }, value })),
    };
    yield {
      name: 'ambit_agent_enrolments_total',
      help: 'Pods brought into the mesh, taken out of it, and attempts that failed.',
      type: 'counter',
      samples: Object.entries({ enrolled, removed, failed }).map(([result, value]) => ({ labels: { result }, value })),
    };
    const counts = this.#countPods();
    yield {
      name: 'ambit_agent_pods',
      help: 'Pods of this node with a network of their own, by how they stand.',
      type: 'gauge',
      samples: Object.entries(counts).map(([status, value]) => ({ labels: { status }, value })),
    };
    yield gauge('process_resident_memory_bytes', 'Resident memory of the agent.', process.memoryUsage.rss());
  }

  #countPods(): Record<'enabled' | 'pending' | 'none', number> {
    const counts = { enabled: 0, pending: 0, none: 0 };
    for (const { status } of this.#audit.pods()) counts[status]++;
    return counts;
  }

  #describe(): object {
    const { nodeName, failMode, zdsSocket, runDirectory } = this.#config;
    return {
      node: nodeName,
      startedAt: this.#startedAt.toISOString(),
      notReady: this.notReady ?? null,
      backend: this.#deps.backend.name,
      ztunnels: { connected: this.#zds.connections, synced: this.#zds.synced, socket: zdsSocket },
      failMode: { mode: failMode, lifted: this.#failMode.isLifted },
      pods: this.#countPods(),
      counters: this.#enrolment.counters,
      runDirectory,
      residentBytes: process.memoryUsage.rss(),
    };
  }
}

function gauge(name: string, help: string, value: number): Metric {
  return { name, help, type: 'gauge', samples: [{ value }] };
}
