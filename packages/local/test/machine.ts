// A machine to bring a mesh up on: the sandbox, with a network outside it and a firewall that forwards nothing it does not
// know; and the `ambit` command, whole, as the only way to ask for anything.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SANDBOX_DIR } from '@ambit/testbed';
import type { WorkloadView } from '../src/local-workloads.ts';
import type { PartName, UpStatus } from '../src/up/up-status.ts';

export const MAIN = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));
const HOST_STATE =
  'ip -br addr; ip route; ip -6 route; nft -s list ruleset; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding';
export const OUTSIDE_IP = '192.0.2.2';
/** Answers with who calls, over HTTP, on the port of its first argument. */
export const SERVER = `require('http').createServer((q, r) => r.end('hello ' + q.socket.remoteAddress)).listen(Number(process.argv[1]), () => console.log('up'))`;

export interface Answer {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Machine {
  readonly directory = mkdtempSync(join(SANDBOX_DIR, 'up-'));
  readonly #end: () => void;
  /** What its network was before. */
  readonly before: string;

  private constructor(end: () => void) {
    sh(`chmod 755 ${this.directory}`);
    this.#end = end;
    this.before = hostState();
  }

  static async boot(): Promise<Machine> {
    sh('ip netns add out; ip link add up0 type veth peer name in0 netns out');
    sh('ip addr add 192.0.2.1/24 dev up0; ip link set up0 up');
    sh(`ip -n out addr add ${OUTSIDE_IP}/24 dev in0; ip -n out link set in0 up; ip -n out link set lo up`);
    sh(`nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'`);
    const outside = spawn('ip', ['netns', 'exec', 'out', process.execPath, '-e', SERVER, '9000'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(outside.stdout, 'data');
    await eventually(() => !sh('ip -br -6 addr show dev up0').includes('tentative'), 'the link settles');
    return new Machine(() => outside.kill('SIGKILL'));
  }

  close(): void {
    this.ambit('down', ['--force']);
    this.#end();
    sh('nft delete table ip filter; ip link del up0; ip netns del out');
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** One whole command. */
  ambit(command: string, args: readonly string[] = [], options: { uid?: number; env?: object } = {}): Answer {
    const { uid, env } = options;
    const drop = uid === undefined ? [] : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
    const [program = '', ...rest] = [...drop, process.execPath, MAIN, command, '--dir', this.directory, ...args];
    return spawnSync(program, rest, { encoding: 'utf8', timeout: 90_000, env: { ...process.env, ...env }, input: '' });
  }

  must(command: string, args: readonly string[] = []): string {
    const { status, stdout, stderr } = this.ambit(command, args);
    assert.equal(status, 0, `ambit ${command} ${args.join(' ')}\n${stdout}${stderr}`);
    return stdout;
  }

  curl(name: string, url: string, ...more: readonly string[]): Answer {
    return this.ambit('run', ['--name', name, ...more, '--', 'curl', '-sS', '-m', '10', url]);
  }

  /** Starts a server in the background, and returns when it listens. */
  serve(name: string, port: number, ...more: readonly string[]): void {
    this.must('run', ['-d', '--name', name, ...more, '--', process.execPath, '-e', SERVER, String(port)]);
    untilUp(name, () => this.must('logs', [name]));
  }

  workloads(): readonly WorkloadView[] {
    return (JSON.parse(this.must('ps', ['-o', 'json'])) as { workloads: readonly WorkloadView[] }).workloads;
  }

  workload(name: string): WorkloadView {
    const found = this.workloads().find(each => each.name === name);
    assert.ok(found !== undefined, `no workload ${name}`);
    return found;
  }

  status(): UpStatus {
    return JSON.parse(this.read('run/up.json')) as UpStatus;
  }

  /** 0 while it is not ready. */
  pidOf(part: PartName): number {
    const state = this.status().parts[part];
    return state.kind === 'ready' ? state.pid : 0;
  }

  read(path: string): string {
    return readFileSync(join(this.directory, path), 'utf8');
  }
}

/** What `SERVER` prints once it listens is in its log; looking there takes long enough to be no busy loop. */
export function untilUp(name: string, log: () => string): void {
  for (let looks = 0; looks < 200; looks++) if (log() === 'up\n') return;
  assert.fail(`${name} does not listen`);
}

export function hostState(): string {
  return sh(HOST_STATE);
}

export function sh(command: string): string {
  const { stdout, stderr, status } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
  assert.equal(status, 0, `${command}: ${stderr}`);
  return stdout;
}

export async function eventually(isTrue: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  const deadline = AbortSignal.timeout(timeoutMs);
  while (!isTrue()) {
    assert.ok(!deadline.aborted, what);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}
