// Puts everything on the stage in order: nodes, pods with their rules, the control plane, the capture, then the node
// proxies, and the shop's programs last; or the little that is possible on loopback. Says each step on the screen.
import { join } from 'node:path';
import { Testbed } from '../bed.ts';
import { ControlWatch } from './control-watch.ts';
import { Loopback } from './loopback.ts';
import { readMetrics } from './read-metrics.ts';
import { RecordFeed } from './record-feed.ts';
import type { Screen } from './screen.ts';
import { SHOP_EDGES, SHOP_NODES } from './shop-plan.ts';
import { Shop, type StoreKind } from './shop.ts';
import { WireWatch } from './wire-watch.ts';

export interface StageOptions {
  /** Program and arguments of the node proxy. */
  readonly ztunnelCommand: readonly string[];
  /** Program and arguments of the control plane; its options are added. */
  readonly controlCommand: readonly string[];
  /** Directory of the shop's objects, and what people call it. */
  readonly objects: { readonly directory: string; readonly title: string };
  /** What runs as shop/db; undefined: Redis where Debian's is installed, else a store of our own. */
  readonly store: StoreKind | undefined;
  /** For tests: leaves a pod out of the mesh that belongs into it. */
  readonly breakEncryption: boolean;
}

export interface StageEvents {
  /** Random text that every order carries. */
  readonly token: string;
  readonly onRecordLine: (line: string) => void;
  /** Told to stop: what follows is left out. */
  readonly stop: AbortSignal;
}

export interface Stage {
  readonly control: ControlWatch;
  /** Undefined where frames cannot be captured. */
  readonly wire: WireWatch | undefined;
  /** What runs as shop/db. */
  readonly store: string;
  /** Has the proxies tell all they know. Never rejects. */
  readonly refresh: () => Promise<unknown>;
  /** Makes the demo's fault. */
  readonly injectFault: () => void;
  /** Rejects when one of the programs ends by itself. */
  readonly failed: () => Promise<never>;
}

const TUNNEL_PORT = 15_008;
/** The first one only: without networks of their own there are two proxies. */
const LOOPBACK_EDGES = SHOP_EDGES.slice(0, 1);

/** What is set up is taken down by `closers`. Undefined when it was told to stop meanwhile. @throws TestbedError */
export async function stageOnNodes(
  options: StageOptions,
  events: StageEvents,
  screen: Screen,
  closers: AsyncDisposableStack,
): Promise<Stage | undefined> {
  screen.doing('making two nodes');
  const bed = await Testbed.create({ nodes: SHOP_NODES });
  closers.defer(async () => bed.close());
  screen.done(`nodes ${bed.nodes.map(({ name, subnet4 }) => `${name} ${subnet4}`).join(' · ')}`);
  if (events.stop.aborted) return undefined;

  screen.doing('making pods, starting the control plane');
  const { objects, controlCommand, store, breakEncryption } = options;
  // Only the bed knows that the cart is left out; the policies are the same.
  const paths = breakEncryption
    ? [bed.objectsDirectory, join(objects.directory, 'policies.yaml')]
    : [objects.directory];
  const [shop, process] = await Promise.all([
    Shop.build(bed, { token: events.token, store, breakEncryption }),
    bed.startControl({ command: controlCommand, paths }),
  ]);
  const wire = await watchWire(shop, events.token);
  closers.defer(async () => wire.close());
  const outside = bed.pods.filter(pod => !pod.enrolled).length;
  screen.done(`${bed.pods.length - outside} pods with their rules, ${outside} left outside on purpose`);
  const control = await ControlWatch.open(
    process,
    SHOP_EDGES,
    breakEncryption ? 'a mesh without the cart' : objects.title,
  );
  tellControl(screen, control);
  if (events.stop.aborted) return undefined;

  screen.doing('starting ztunnel on n1 and n2');
  const ztunnels = Promise.all(
    SHOP_NODES.map(async node => {
      const path = join(bed.workDir, `records-${node}`);
      const feed = await RecordFeed.open(path, events.onRecordLine);
      closers.defer(() => feed.close());
      const env = { AMBIT_RECORDS_PATH: path, ZTUNNEL_WORKER_THREADS: '1' };
      await bed.startZtunnel(node, { command: options.ztunnelCommand, env });
    }),
  );
  // Without it they would never be ready, and say nothing of why.
  await Promise.race([ztunnels, process.failed()]);
  screen.done('ztunnel on n1 and n2, pods enrolled, capture running');
  await shop.open();
  const refresh = async () => Promise.all(bed.nodes.map(async ({ ip4 }) => readMetrics(ip4)));
  const failed = async () => shop.failed();
  return { control, wire, store: shop.store, refresh, injectFault: () => shop.injectFault(), failed };
}

/** As `stageOnNodes`, with one edge and no capture. */
export async function stageOnLoopback(
  options: StageOptions,
  events: StageEvents,
  screen: Screen,
  closers: AsyncDisposableStack,
): Promise<Stage | undefined> {
  const { ztunnelCommand, controlCommand, objects } = options;
  const loopback = closers.use(new Loopback({ ...events, ztunnelCommand, controlCommand, objects: objects.directory }));
  screen.doing('starting the control plane');
  const process = await loopback.startControl();
  const control = await ControlWatch.open(process, LOOPBACK_EDGES, objects.title);
  tellControl(screen, control);
  if (events.stop.aborted) return undefined;
  screen.doing('starting two proxies on loopback');
  await loopback.open(process);
  screen.done('proxies at 127.0.0.2:15001 and 127.0.0.3:15008');
  if (events.stop.aborted) return undefined;
  const refresh = async () => loopback.refresh();
  const failed = async () => loopback.failed();
  return { control, wire: undefined, store: '', refresh, injectFault: () => loopback.injectFault(), failed };
}

function tellControl(screen: Screen, { state }: ControlWatch): void {
  const { url, objects, workloads, services, policies } = state;
  screen.done(`control plane ${new URL(url).host}, root made`);
  screen.done(
    `${objects}: ${workloads} workloads, ${services} services, ${policies === 1 ? '1 policy' : `${policies} policies`}`,
  );
}

async function watchWire(shop: Shop, token: string): Promise<WireWatch> {
  return WireWatch.start({
    tunnelPort: TUNNEL_PORT,
    markers: [token, 'GET /cart'],
    links: [
      // One link carries all that goes between two nodes: node, pods and whatever else has their addresses.
      {
        netnsPath: undefined,
        interfaceName: 'node1',
        sides: [
          ['10.61.1.', 'fd00:61:1:'],
          ['10.61.2.', 'fd00:61:2:'],
        ],
      },
      // An address is its own side here: everything the pod outside the mesh sends or gets.
      {
        netnsPath: shop.outside.node.netnsPath,
        interfaceName: shop.outside.net.hostInterface,
        sides: [[shop.outside.ip4], ['10.', 'fd00:']],
      },
    ],
  });
}
