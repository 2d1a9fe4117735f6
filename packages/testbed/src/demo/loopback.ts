// The demo where no network namespaces are allowed: a control plane and two dedicated proxies on loopback addresses, reached
// by explicit ports instead of redirection. web calls its proxy, which carries the calls in mutual TLS to the proxy of cart.
// There is no capture and no denied caller here. Leaves nothing: its directory vanishes with it, and every process gets a
// death signal, so that the end of this one, SIGKILL included, is the end of all.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ControlProcess } from '../control-process.ts';
import { TestbedError } from '../errors.ts';
import { endGroup } from '../processes.ts';
import { watchProgram } from './program.ts';
import { readMetrics } from './read-metrics.ts';
import { readdressObjects } from './readdress.ts';
import { RecordFeed } from './record-feed.ts';
import { SHOP_PODS } from './shop-plan.ts';
import { VanishingDirectory } from './vanishing-directory.ts';

export interface LoopbackOptions {
  readonly ztunnelCommand: readonly string[];
  readonly controlCommand: readonly string[];
  /** Directory of objects; copied where they name addresses. */
  readonly objects: string;
  readonly token: string;
  readonly onRecordLine: (line: string) => void;
  readonly stop: AbortSignal;
}

const WEB = { name: 'web', node: SHOP_PODS.web.node, ip: '127.0.0.2' } as const;
const CART = { name: 'cart', node: SHOP_PODS.cart.node, ip: '127.0.0.3' } as const;
const CONTROL_IP = '127.0.0.1';
/** Everything on loopback that does not choose an address calls from 127.0.0.1: that is web. */
const ADDRESSES: ReadonlyMap<string, string> = new Map([
  [SHOP_PODS.web.ip4, WEB.ip],
  [SHOP_PODS.web.ip6, '127.0.0.1'],
  [SHOP_PODS.cart.ip4, CART.ip],
]);
const OUTBOUND_PORT = 15_001;
const APP_PORT = 8080;
const READINESS_PORT = 15_021;
const READY_TIMEOUT_MS = 20_000;
const ASK_AGAIN_MS = 50;
const GRACE_MS = 3_000;
const WEB_PAUSE_MS = 12;
/** The end of this process is the end of what it starts. */
const WITH_US = ['setpriv', '--pdeathsig', 'KILL', '--'] as const;
const APPS = join(import.meta.dirname, 'apps');

export class Loopback implements AsyncDisposable {
  readonly #options: LoopbackOptions;
  readonly #children: ChildProcess[] = [];
  readonly #closers = new AsyncDisposableStack();
  #cart: ChildProcess | undefined;
  readonly #failure = Promise.withResolvers<never>();

  constructor(options: LoopbackOptions) {
    this.#options = options;
    this.#failure.promise.catch(() => undefined); // told by whoever races it
  }

  /** Starts the control plane, on ports of the kernel's choice. @throws testbed.timeout, testbed.command_failed */
  async startControl(): Promise<ControlProcess> {
    const directory = this.#closers.use(await VanishingDirectory.create());
    const copies = join(directory.path, 'objects');
    const control = await ControlProcess.start(
      { command: [...WITH_US, ...this.#options.controlCommand] },
      {
        stateDirectory: join(directory.path, 'control'),
        paths: await readdressObjects(this.#options.objects, ADDRESSES, copies),
        host: CONTROL_IP,
        ports: 'any',
      },
    );
    this.#closers.defer(async () => void (await control.stop(GRACE_MS)));
    return control;
  }

  /** Starts proxies, waits until they are ready, starts the programs. @throws testbed.timeout, testbed.command_failed */
  async open(control: ControlProcess): Promise<void> {
    const proxies = [
      { ...WEB, more: { AMBIT_FORWARD: `${CART.ip}:${APP_PORT}` } },
      { ...CART, more: {} },
    ];
    for (const { name, node, ip, more } of proxies) {
      const directory = join(control.stateDirectory, '..');
      const feed = await RecordFeed.open(join(directory, `records-${name}`), this.#options.onRecordLine);
      this.#closers.defer(() => feed.close());
      const env = {
        ...process.env,
        ...more,
        // A proxy of one pod has the pod's own identity, not a node's.
        ...(await control.environmentFor(
          { node, namespace: 'shop', serviceAccount: name },
          join(directory, `token-${name}`),
        )),
        PROXY_MODE: 'dedicated',
        PROXY_WORKLOAD_INFO: `shop/${name}/${name}`,
        POD_NAME: `ztunnel-${name}`,
        INSTANCE_IP: ip,
        AMBIT_BIND_ADDRESS: ip,
        AMBIT_RECORDS_PATH: feed.hide(),
        IPV6_ENABLED: 'false',
        ZTUNNEL_WORKER_THREADS: '1',
      };
      this.#run(`the proxy of shop/${name}`, this.#options.ztunnelCommand, env);
    }
    await Promise.race([Promise.all(proxies.map(async ({ ip }) => this.#ready(ip))), this.#failure.promise]);
    const node = process.execPath;
    this.#cart = this.#run(
      'shop/cart',
      [node, join(APPS, 'cart.ts'), '', '', this.#options.token, CART.ip],
      process.env,
    );
    const url = `http://${WEB.ip}:${OUTBOUND_PORT}/cart/${this.#options.token}`;
    this.#run('shop/web', [node, join(APPS, 'web.ts'), url, String(WEB_PAUSE_MS), WEB.ip], process.env);
  }

  /** Makes the demo's fault. */
  injectFault(): void {
    this.#cart?.kill('SIGUSR2');
  }

  /** Has the proxies tell all they know: they do so when their metrics are read. */
  async refresh(): Promise<void> {
    await Promise.all([WEB, CART].map(async ({ ip }) => readMetrics(ip)));
  }

  /** Rejects when one of the processes ends by itself. */
  async failed(): Promise<never> {
    return this.#failure.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map(async child => endGroup(child, GRACE_MS)));
    await this.#closers.disposeAsync();
  }

  #run(who: string, command: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
    const [setpriv, ...before] = WITH_US;
    const child = spawn(setpriv, [...before, ...command], { env, stdio: 'pipe', detached: true });
    this.#children.push(child);
    child.stdin.end();
    watchProgram(child, who, error => this.#failure.reject(error));
    return child;
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
