// The demo's shop on a bed: pods as planned, and the programs in them. What the mesh knows of them, and which policies
// hold, is none of its business: that is in the objects which the control plane reads.
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Testbed } from '../bed.ts';
import type { TestbedError } from '../errors.ts';
import type { Pod } from '../pod.ts';
import { watchProgram } from './program.ts';
import { SHOP_PODS, SHOP_SERVICES } from './shop-plan.ts';

export type StoreKind = 'redis' | 'own';

export interface ShopOptions {
  /** Random text that every order carries; the capture looks for it. */
  readonly token: string;
  /** Leaves the cart out of the mesh: what the demo must then notice. */
  readonly breakEncryption: boolean;
  /** Undefined: Redis where Debian's is installed, else our own. */
  readonly store: StoreKind | undefined;
}

const APPS = join(import.meta.dirname, 'apps');
const REDIS = '/usr/bin/redis-server';
/** Milliseconds between two requests of each of web's four connections, and between two calls of the others. */
const WEB_PAUSE_MS = 12;
const STRANGER_PAUSE_MS = 500;
const OUTSIDE_PAUSE_MS = 1000;

type Members = Readonly<Record<'web' | 'cart' | 'db' | 'stranger', Pod>>;

export class Shop {
  readonly outside: Pod;
  /** What runs as shop/db. */
  readonly store: StoreKind;
  readonly #bed: Testbed;
  readonly #options: ShopOptions;
  readonly #pods: Members;
  #cart: ChildProcess | undefined;
  #failure: ((error: TestbedError) => void) | undefined;

  private constructor(bed: Testbed, options: ShopOptions, pods: Members, outside: Pod) {
    this.#bed = bed;
    this.#options = options;
    this.#pods = pods;
    this.outside = outside;
    this.store = options.store ?? (existsSync(REDIS) ? 'redis' : 'own');
  }

  /** Pods and services; nothing runs in them yet. @throws what the bed throws */
  static async build(bed: Testbed, options: ShopOptions): Promise<Shop> {
    const [web, db, stranger, outside, cart] = await Promise.all([
      bed.addPod(SHOP_PODS.web),
      bed.addPod(SHOP_PODS.db),
      bed.addPod(SHOP_PODS.stranger),
      bed.addPod(SHOP_PODS.outside),
      bed.addPod({ ...SHOP_PODS.cart, enrolled: !options.breakEncryption }),
    ]);
    for (const { name, namespace, port, targetPort } of Object.values(SHOP_SERVICES)) {
      await bed.addService({ name, namespace, ports: { [port]: targetPort } });
    }
    return new Shop(bed, options, { web, cart, db, stranger }, outside);
  }

  /** Starts everybody. Returns at once; who is not up yet is asked again. */
  async open(): Promise<void> {
    const { web, cart, db, stranger } = this.#pods;
    const { token } = this.#options;
    if (this.store === 'redis') await this.#startRedis(db);
    else this.#run(db, 'store.ts', []);
    // A service's address means nothing outside the mesh.
    this.#cart = this.#run(cart, 'cart.ts', [cart.enrolled ? SHOP_SERVICES.db.ip4 : db.ip4, '6379', token]);
    const cartUrl = `http://${SHOP_SERVICES.cart.ip4}/cart/${token}`;
    this.#run(web, 'web.ts', [cartUrl, String(WEB_PAUSE_MS)]);
    this.#run(stranger, 'caller.ts', [cartUrl, String(STRANGER_PAUSE_MS)]);
    const webUrl = `http://${web.ip4}:8080/welcome/${token}`;
    this.#run(this.outside, 'caller.ts', [webUrl, String(OUTSIDE_PAUSE_MS)]);
  }

  /** Makes the demo's fault. */
  injectFault(): void {
    this.#cart?.kill('SIGUSR2');
  }

  /** Rejects when one of the programs ends by itself. */
  async failed(): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    this.#failure = reject;
    return promise;
  }

  async #startRedis(db: Pod): Promise<void> {
    const directory = join(this.#bed.workDir, 'redis');
    await mkdir(directory, { recursive: true });
    const options = ['--save', '', '--appendonly', 'no', '--protected-mode', 'no', '--dir', directory];
    this.#watch(db, db.exec(REDIS, ['--port', '6379', '--bind', '0.0.0.0', '::', ...options], { env: process.env }));
  }

  #run(pod: Pod, app: string, args: readonly string[]): ChildProcess {
    const child = pod.exec(process.execPath, [join(APPS, app), ...args], { env: process.env });
    this.#watch(pod, child);
    return child;
  }

  #watch(pod: Pod, child: ChildProcess): void {
    const from = `${pod.namespace}/${pod.name}`;
    watchProgram(child, from, error => this.#failure?.(error));
  }
}
