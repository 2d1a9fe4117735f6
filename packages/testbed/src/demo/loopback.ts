// The demo where no network namespaces are allowed: two dedicated proxies on loopback addresses, reached by explicit ports
// instead of redirection. web calls its proxy, which carries the calls in mutual TLS to the proxy of cart. There is no
// capture and no denied caller here. Leaves nothing: files are unlinked before they are used, and every process gets a
// death signal, so that the end of this one, SIGKILL included, is the end of all.
import { randomUUID } from 'node:crypto';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createWorkload, type Ip } from '@ambit/mesh';
import { TestbedError } from '../errors.ts';
import { renderMeshFile } from '../mesh-file.ts';
import { endGroup } from '../processes.ts';
import { type OnReport, watchProgram } from './program.ts';
import { RecordFeed } from './record-feed.ts';

export interface LoopbackOptions {
  readonly ztunnelCommand: readonly string[];
  readonly devRoot: { readonly certPem: string; readonly keyPem: string };
  readonly token: string;
  readonly onRecordLine: (line: string) => void;
  readonly onReport: OnReport;
  readonly stop: AbortSignal;
}

const WEB = { name: 'web', ip: '127.0.0.2' } as const;
const CART = { name: 'cart', ip: '127.0.0.3' } as const;
const OUTBOUND_PORT = 15_001;
const APP_PORT = 8080;
const READINESS_PORT = 15_021;
const READY_TIMEOUT_MS = 20_000;
const ASK_AGAIN_MS = 50;
const GRACE_MS = 3_000;
const WEB_PAUSE_MS = 12;
const APPS = join(import.meta.dirname, 'apps');

export class Loopback implements AsyncDisposable {
  readonly #options: LoopbackOptions;
  readonly #children: ChildProcess[] = [];
  readonly #descriptors: number[] = [];
  readonly #feeds: RecordFeed[] = [];
  readonly #failure = Promise.withResolvers<never>();

  constructor(options: LoopbackOptions) {
    this.#options = options;
    this.#failure.promise.catch(() => undefined); // told by whoever races it
  }

  /** Starts proxies, waits until they are ready, starts the programs. @throws testbed.timeout, testbed.command_failed */
  async open(): Promise<void> {
    const cert = this.#hidden(this.#options.devRoot.certPem);
    const key = this.#hidden(this.#options.devRoot.keyPem);
    const proxies = [
      { ...WEB, more: { AMBIT_FORWARD: `${CART.ip}:${APP_PORT}` } },
      { ...CART, more: {} },
    ];
    for (const { name, ip, more } of proxies) {
      const feed = await RecordFeed.open(join(tmpdir(), `ambit-${randomUUID()}`), this.#options.onRecordLine);
      this.#feeds.push(feed);
      const env = {
        ...process.env,
        ...more,
        PROXY_MODE: 'dedicated',
        PROXY_WORKLOAD_INFO: `shop/${name}/${name}`,
        AMBIT_BIND_ADDRESS: ip,
        AMBIT_RECORDS_PATH: feed.hide(),
        AMBIT_DEV_CA_CERT: cert,
        AMBIT_DEV_CA_KEY: key,
        LOCAL_XDS: meshText(),
        XDS_ADDRESS: '',
        IPV6_ENABLED: 'false',
        ZTUNNEL_WORKER_THREADS: '1',
      };
      this.#run(`the proxy of shop/${name}`, this.#options.ztunnelCommand, env);
    }
    await Promise.race([Promise.all(proxies.map(async ({ ip }) => this.#ready(ip))), this.#failure.promise]);
    const node = process.execPath;
    this.#run('shop/cart', [node, join(APPS, 'cart.ts'), '', '', this.#options.token, CART.ip], process.env);
    const url = `http://${WEB.ip}:${OUTBOUND_PORT}/cart/${this.#options.token}`;
    this.#run('shop/web', [node, join(APPS, 'web.ts'), url, String(WEB_PAUSE_MS), WEB.ip], process.env);
  }

  /** Rejects when one of the processes ends by itself. */
  async failed(): Promise<never> {
    return this.#failure.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map(async child => endGroup(child, GRACE_MS)));
    for (const feed of this.#feeds) feed.close();
    for (const fd of this.#descriptors) closeSync(fd);
  }

  /** A file without a name: whoever may look at our descriptors can open it, and it goes with us. @returns its path */
  #hidden(text: string): string {
    const path = join(tmpdir(), `ambit-${randomUUID()}`);
    try {
      writeFileSync(path, text, { mode: 0o600, flag: 'wx' });
      const fd = openSync(path, 'r');
      this.#descriptors.push(fd);
      return `/proc/${process.pid}/fd/${fd}`;
    } finally {
      unlinkSync(path);
    }
  }

  #run(who: string, command: readonly string[], env: NodeJS.ProcessEnv): void {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], { env, stdio: 'pipe', detached: true });
    this.#children.push(child);
    child.stdin.end();
    watchProgram(child, who, this.#options.onReport, error => this.#failure.reject(error));
  }

  async #ready(ip: string): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (performance.now() < deadline && !this.#options.stop.aborted) {
      const answer = await fetch(`http://${ip}:${READINESS_PORT}/healthz/ready`).catch(() => undefined);
      if (answer?.ok === true) return;
      await delay(ASK_AGAIN_MS);
    }
    if (this.#options.stop.aborted) return;
    throw new TestbedError('testbed.timeout', `the proxy on ${ip} is not ready after ${READY_TIMEOUT_MS / 1000} s`);
  }
}

/** The mesh: two workloads. Everything on loopback that does not choose an address calls from 127.0.0.1: that is web. */
function meshText(): string {
  const workload = (name: string, ips: readonly string[]) =>
    createWorkload({
      uid: `demo//Pod/shop/${name}`,
      name,
      namespace: 'shop',
      serviceAccount: name,
      trustDomain: 'cluster.local',
      workloadIps: ips.map(ip => ip as Ip),
      protocol: 'HBONE',
      workloadName: name,
      canonicalName: name,
    });
  const workloads = [workload(WEB.name, [WEB.ip, '127.0.0.1']), workload(CART.name, [CART.ip])];
  return renderMeshFile({ workloads, services: [], policies: [] });
}
