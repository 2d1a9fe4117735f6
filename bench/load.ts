// The load generators in the client pod: each bounded in time, each giving plain numbers, each throwing when nothing went
// through, so that a broken candidate never looks fast.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Pod } from '@ambit/testbed';
import { PORTS } from './servers.ts';

export interface RequestLoad {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Connections that could not be opened, broke or timed out, and answers other than 2xx and 3xx. */
  readonly failures: number;
}

/** `wrk` for a while, one thread. `isFresh` asks for a connection per request. */
export async function requests(
  pod: Pod,
  host: string,
  load: { readonly connections: number; readonly seconds: number; readonly isFresh?: boolean; readonly port?: number },
): Promise<RequestLoad> {
  const args = ['-t1', `-c${load.connections}`, `-d${load.seconds}`, '--timeout', '2', '--latency'];
  if (load.isFresh === true) args.push('-H', 'Connection: close');
  const url = `http://${host}:${load.port ?? PORTS.http}/`;
  const { stdout, stderr } = await pod.run('wrk', [...args, url], { timeoutMs: (load.seconds + 8) * 1_000 });
  const count = Number(/(\d+) requests in/.exec(stdout)?.[1] ?? 0);
  if (count === 0) throw new Error(`wrk got no answer: ${stderr.trim()} ${stdout.trim()}`);
  const broken = /connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout)?.slice(1) ?? [];
  const refused = /Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? '0';
  return {
    requests: count,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p50Ms: milliseconds(/50%\s+(\S+)/.exec(stdout)?.[1]),
    p99Ms: milliseconds(/99%\s+(\S+)/.exec(stdout)?.[1]),
    failures: [...broken, refused].reduce((sum, text) => sum + Number(text), 0),
  };
}

export interface BulkLoad {
  readonly bytes: number;
  readonly gbitPerSecond: number;
}

/** iperf3's server takes one test at a time, and what a proxy still holds of the last one prolongs it. */
const BUSY_TIMEOUT_MS = 5_000;
const BUSY_PERIOD_MS = 200;

/** `iperf3` for a while; `isReverse` sends from server to client. */
export async function bulk(
  pod: Pod,
  host: string,
  load: { readonly streams: number; readonly seconds: number; readonly isReverse?: boolean; readonly port?: number },
): Promise<BulkLoad> {
  const args = [
    '-c',
    host,
    '-p',
    String(load.port ?? PORTS.bulk),
    '-t',
    String(load.seconds),
    '-P',
    String(load.streams),
    '-J',
  ];
  if (load.isReverse === true) args.push('-R');
  const deadline = Date.now() + BUSY_TIMEOUT_MS;
  for (;;) {
    const { stdout, stderr } = await pod.run('iperf3', args, { timeoutMs: (load.seconds + 10) * 1_000 });
    const report = JSON.parse(stdout || '{}') as IperfReport;
    const received = report.end?.sum_received;
    if (received !== undefined && received.bytes > 0) {
      return { bytes: received.bytes, gbitPerSecond: received.bits_per_second / 1e9 };
    }
    const isBusy = report.error?.includes('server is busy') === true && Date.now() < deadline;
    if (!isBusy) throw new Error(`iperf3 moved nothing: ${report.error ?? stderr.trim()}`);
    await delay(BUSY_PERIOD_MS);
  }
}

interface IperfReport {
  readonly error?: string;
  readonly end?: { readonly sum_received?: { readonly bytes: number; readonly bits_per_second: number } };
}

/** Connections that are open and silent until disposed of. */
export class IdleConnections {
  readonly count: number;
  readonly failures: number;
  readonly #child: ChildProcess;
  readonly #stdin: Writable;

  private constructor(child: ChildProcess, stdin: Writable, line: string) {
    this.#child = child;
    this.#stdin = stdin;
    [this.count = 0, this.failures = 0] = line.split(' ').map(Number);
  }

  /** @throws Error when they are not settled within `timeoutMs` */
  static async open(pod: Pod, host: string, count: number, timeoutMs: number): Promise<IdleConnections> {
    const holder = join(import.meta.dirname, 'load', 'idle-holder.ts');
    const command = [process.execPath, holder, host, String(PORTS.echo), String(count)];
    const child = pod.exec('sh', ['-c', 'ulimit -n $(ulimit -Hn); exec "$@"', 'sh', ...command], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [stdin, stdout] = [child.stdin as Writable, child.stdout as Readable]; // both are pipes, as asked above
    stdin.on('error', () => undefined); // it ended by itself: its exit is awaited elsewhere
    const [line] = (await once(createInterface({ input: stdout }), 'line', {
      signal: AbortSignal.timeout(timeoutMs),
    })) as [string];
    return new IdleConnections(child, stdin, line);
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#stdin.end();
    await ended;
  }
}

export interface HandshakeLoad {
  readonly done: number;
  readonly failed: number;
  readonly lastError: string;
}

/** New TLS sessions against `port`, from a pod outside the mesh. @throws Error when none was accepted */
export async function handshakes(
  pod: Pod,
  host: string,
  load: { readonly port: number; readonly seconds: number; readonly certificates: string },
): Promise<HandshakeLoad> {
  const program = join(import.meta.dirname, 'load', 'tls-sessions.ts');
  const args = [program, host, String(load.port), String(load.seconds), '8', load.certificates];
  const { stdout, stderr } = await pod.run(process.execPath, args, { timeoutMs: (load.seconds + 10) * 1_000 });
  const result = JSON.parse(stdout || '{"done":0}') as HandshakeLoad;
  if (result.done === 0) throw new Error(`no handshake was accepted: ${result.lastError ?? stderr.trim()}`);
  return result;
}

function milliseconds(text: string | undefined): number {
  const [, value = 'NaN', unit = 'ms'] = /^([\d.]+)(us|ms|s|m)$/.exec(text ?? '') ?? [];
  return Number(value) * ({ us: 0.001, ms: 1, s: 1_000, m: 60_000 }[unit] ?? Number.NaN);
}
