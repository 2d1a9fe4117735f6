// The demo's shop on a bed: who is where, which policy holds, and the programs in the pods. Placed so that everything
// inside the mesh crosses from node to node, and the one plaintext caller from outside the mesh stays on its own node.
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createMatch } from '@ambit/mesh';
import type { Testbed } from '../bed.ts';
import type { TestbedError } from '../errors.ts';
import type { Pod } from '../pod.ts';
import { type OnReport, watchProgram } from './program.ts';

export type StoreKind = 'redis' | 'own';

export interface ShopOptions {
  /** Random text that every order carries; the capture looks for it. */
  readonly token: string;
  /** Leaves the cart out of the mesh: what the demo must then notice. */
  readonly breakEncryption: boolean;
  /** Undefined: Redis where Debian's is installed, else our own. */
  readonly store: StoreKind | undefined;
  /** Called with each report of a program: from and to as `namespace/name`. */
  readonly onReport: OnReport;
}

const APPS = join(import.meta.dirname, 'apps');
const REDIS = '/usr/bin/redis-server';
/** Milliseconds between two requests of each of web's four connections, and between two calls of the others. */
const WEB_PAUSE_MS = 12;
const STRANGER_PAUSE_MS = 500;
const OUTSIDE_PAUSE_MS = 1000;

export const DENYING_POLICY = 'cart-callers';

export class Shop {
  readonly outside: Pod;
  /** What runs as shop/db. */
  readonly store: StoreKind;
  readonly #bed: Testbed;
  readonly #options: ShopOptions;
  readonly #pods: Readonly<Record<'web' | 'cart' | 'db' | 'stranger', Pod>>;
  readonly #vips: Readonly<Record<'web' | 'cart' | 'db', string>>;
  #failure: ((error: TestbedError) => void) | undefined;

  private constructor(bed: Testbed, options: ShopOptions, parts: Parts) {
    this.#bed = bed;
    this.#options = options;
    this.#pods = parts.pods;
    this.#vips = parts.vips;
    this.outside = parts.outside;
    this.store = options.store ?? (existsSync(REDIS) ? 'redis' : 'own');
  }

  /** Pods, services and the policy; nothing runs in them yet. @throws what the bed throws */
  static async build(bed: Testbed, options: ShopOptions): Promise<Shop> {
    const add = async (node: string, name: string, enrolled = true): Promise<Pod> =>
      bed.addPod({ node, name, namespace: 'shop', serviceAccount: name, enrolled });
    const [web, cart, db, stranger, outside] = await Promise.all([
      add('n1', 'web'),
      add('n2', 'cart', !options.breakEncryption),
      add('n1', 'db'),
      add('n1', 'stranger'),
      bed.addPod({ node: 'n1', name: 'outside', namespace: 'plain', enrolled: false }),
    ]);
    const vips = { web: '', cart: '', db: '' };
    for (const [name, port, target] of [
      ['web', 80, 8080],
      ['cart', 80, 8080],
      ['db', 6379, 6379],
    ] as const) {
      const service = await bed.addService({ name, namespace: 'shop', ports: { [port]: target } });
      vips[name] = service.vips[0]?.ip ?? '';
    }
    const caller = { kind: 'exact', value: `${bed.trustDomain}/ns/shop/sa/web` } as const;
    await bed.setPolicies([
      {
        name: DENYING_POLICY,
        namespace: 'shop',
        app: 'cart',
        action: 'Deny',
        rules: [[[createMatch({ notPrincipals: [caller] })]]],
      },
    ]);
    return new Shop(bed, options, { pods: { web, cart, db, stranger }, vips, outside });
  }

  /** Starts everybody. Returns at once; who is not up yet is asked again. */
  async open(): Promise<void> {
    const { web, cart, db, stranger } = this.#pods;
    const { token } = this.#options;
    if (this.store === 'redis') await this.#startRedis(db);
    else this.#run(db, 'store.ts', []);
    // A service's address means nothing outside the mesh.
    this.#run(cart, 'cart.ts', [cart.enrolled ? this.#vips.db : db.ip4, '6379', token]);
    const cartUrl = `http://${this.#vips.cart}/cart/${token}`;
    this.#run(web, 'web.ts', [cartUrl, String(WEB_PAUSE_MS)]);
    this.#run(stranger, 'caller.ts', ['shop/cart', cartUrl, String(STRANGER_PAUSE_MS)]);
    const webUrl = `http://${web.ip4}:8080/welcome/${token}`;
    this.#run(this.outside, 'caller.ts', ['shop/web', webUrl, String(OUTSIDE_PAUSE_MS)]);
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

  #run(pod: Pod, app: string, args: readonly string[]): void {
    const child = pod.exec(process.execPath, [join(APPS, app), ...args], { env: process.env });
    this.#watch(pod, child);
  }

  #watch(pod: Pod, child: ChildProcess): void {
    const from = `${pod.namespace}/${pod.name}`;
    watchProgram(child, from, this.#options.onReport, error => this.#failure?.(error));
  }
}

interface Parts {
  readonly pods: Readonly<Record<'web' | 'cart' | 'db' | 'stranger', Pod>>;
  readonly vips: Readonly<Record<'web' | 'cart' | 'db', string>>;
  readonly outside: Pod;
}
