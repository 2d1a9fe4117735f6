// The thread that reads frames from the links and judges them, so that a busy terminal never makes the capture lose any.
// Two judges: one for the link between the nodes, one for a link on which plaintext is known to run, which proves that
// the same code does find it. Tells its counts when asked.
import { parentPort, workerData } from 'node:worker_threads';
import { type Fd, NetNs, openPacketSocket, Reactor, recv, setReceiveBuffer, Slab } from '@ambit/native';
import { type WireCounts, WireJudge } from './wire-judge.ts';

export interface WatchedLink {
  /** Undefined: the namespace of the process. */
  readonly netnsPath: string | undefined;
  readonly interfaceName: string;
  /** Prefixes of IPv4 and IPv6 text (all groups written out); a frame counts from one side to another. */
  readonly sides: readonly (readonly string[])[];
}

export interface WireWorkerData {
  readonly tunnelPort: number;
  readonly markers: readonly string[];
  readonly links: readonly WatchedLink[];
}

/** Counts of the links, in their order. */
export type WireMessage = { readonly kind: 'watching' } | { readonly kind: 'counts'; readonly links: WireCounts[] };

/** A segment that the kernel has not cut up yet has up to 64 KiB and its headers. */
const FRAME_BYTES = 128 << 10;
/** What the kernel keeps while this thread does not run; it may give less. */
const RECEIVE_BUFFER_BYTES = 8 << 20;

const { tunnelPort, markers, links } = workerData as WireWorkerData;
const slab = Slab.allocate(FRAME_BYTES);
const reactor = new Reactor();
let isWanted = true;

function watch({ netnsPath, interfaceName, sides }: WatchedLink): WireJudge {
  const side = (ip: string): number => sides.findIndex(prefixes => prefixes.some(prefix => ip.startsWith(prefix)));
  const isWatched = (source: string, destination: string): boolean => {
    const [from, to] = [side(source), side(destination)];
    return from >= 0 && to >= 0 && from !== to;
  };
  const judge = new WireJudge({ tunnelPort, markers, isWatched });
  const fd = openIn(netnsPath, interfaceName);
  setReceiveBuffer(fd, RECEIVE_BUFFER_BYTES);
  reactor.add(fd, { onEvents: () => drain(fd, judge) });
  return judge;
}

function openIn(netnsPath: string | undefined, interfaceName: string): Fd {
  if (netnsPath === undefined) return openPacketSocket(interfaceName);
  using netns = NetNs.open(netnsPath);
  return netns.run(() => openPacketSocket(interfaceName));
}

function drain(fd: Fd, judge: WireJudge): void {
  // Events tell of changes only, so everything must be taken.
  for (;;) {
    const length = recv(fd, slab, 0, FRAME_BYTES);
    if (length <= 0) return;
    judge.frame(slab.bytes.subarray(0, length));
  }
}

const judges = links.map(watch);
function post(message: WireMessage): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a MessagePort, not a window
  parentPort?.postMessage(message);
}
parentPort?.on('message', (word: 'counts' | 'stop') => {
  if (word === 'counts') post({ kind: 'counts', links: judges.map(judge => judge.counts()) });
  else {
    isWanted = false;
    reactor.close();
    parentPort?.close();
  }
});
post({ kind: 'watching' });
while (isWanted) await reactor.pollAsync(-1);
