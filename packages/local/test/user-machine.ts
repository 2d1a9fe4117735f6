// An ordinary user on a machine with a network around it: a server outside, reached by the default route, and a resolver on
// the machine's loopback that alone knows the server's name. Of the sandbox's own mounts and networks.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import type { WorkloadView } from '../src/local-workloads.ts';
import { type Answer, eventually, hostState, Machine, MAIN, OUTSIDE_IP, sh } from './machine.ts';

export const NOBODY = 65_534;
export const OUTSIDE_NAME = 'outside.test';
const AS_USER = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const RESOLV_CONF = '/etc/resolv.conf';

/** Every program that gives a network a way out. */
export const WAYS_OUT = ['pasta', 'pasta.avx2', 'slirp4netns'] as const;
/** And the Debian packages they are in. */
const NEEDED: readonly Program[] = [
  ['dnsmasq', 'dnsmasq-base'],
  ['dig', 'bind9-dnsutils'],
];
type Program = readonly [name: string, packageName: string];

/** Why there can be no such machine here; false: there can. */
export function unable(...more: readonly Program[]): string | false {
  const reason = sandboxSkip() || noUserNamespaces();
  if (reason !== false) return reason;
  const missing = [...NEEDED, ...more].find(([name]) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0);
  return missing === undefined ? false : `${missing[0]} is missing: apt install ${missing[1]}`;
}

function noUserNamespaces(): string | false {
  const trial = [...AS_USER.slice(1), 'unshare', '--user', '--map-root-user', '--net', 'true'];
  const { status, stderr } = spawnSync('setpriv', trial);
  return status === 0 ? false : `no user namespaces for ordinary users here: ${String(stderr).trim()}`;
}

export class UserMachine {
  readonly home = mkdtempSync(join(SANDBOX_DIR, 'home-'));
  /** What the host's network was before. */
  readonly before: string;
  readonly #around: Machine;
  readonly #resolver: ChildProcess;
  readonly #path: string;

  private constructor(around: Machine, resolver: ChildProcess, hidden: readonly string[]) {
    this.#around = around;
    this.#resolver = resolver;
    this.before = hostState();
    chownSync(this.home, NOBODY, NOBODY);
    this.#path = this.#pathWithout(hidden);
  }

  /** @param hidden programs that are not installed there */
  static async boot(hidden: readonly string[]): Promise<UserMachine> {
    const around = await Machine.boot();
    sh(`ip link set lo up; ip route add default via ${OUTSIDE_IP}`);
    // Everybody may open it on a machine whose devices udev makes; here they may be root's.
    sh('mount -t tmpfs -o mode=755 none /dev/net; mknod -m 666 /dev/net/tun c 10 200');
    const options = ['--keep-in-foreground', '--no-resolv', '--no-hosts', '--bind-interfaces', '--pid-file='];
    const names = `--address=/${OUTSIDE_NAME}/${OUTSIDE_IP}`;
    const resolver = spawn('dnsmasq', [...options, '--user=root', '--listen-address=127.0.0.1', names], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const ask = () => spawnSync('dig', ['+short', '+time=1', '+tries=1', OUTSIDE_NAME, '@127.0.0.1']);
    await eventually(() => ask().stdout.toString() === `${OUTSIDE_IP}\n`, 'the resolver answers');
    const machine = new UserMachine(around, resolver, hidden);
    writeFileSync(join(machine.home, 'resolv.conf'), 'nameserver 127.0.0.1\n');
    sh(`mount --bind ${join(machine.home, 'resolv.conf')} ${RESOLV_CONF}`);
    return machine;
  }

  async close(): Promise<void> {
    this.ambit('down', '--force');
    await eventually(() => this.processes() === '', 'no process of the user is left');
    this.#resolver.kill('SIGKILL');
    sh(`umount ${RESOLV_CONF}; umount /dev/net; ip route del default`);
    this.#around.close();
    rmSync(this.home, { recursive: true, force: true });
  }

  run(command: readonly string[]): Answer {
    const [program = '', ...args] = [...AS_USER, ...command];
    const { home } = this;
    const env = {
      PATH: this.#path,
      HOME: home,
      XDG_STATE_HOME: join(home, 'state'),
      XDG_RUNTIME_DIR: join(home, 'run'),
    };
    return spawnSync(program, args, { encoding: 'utf8', timeout: 90_000, input: '', cwd: home, env });
  }

  ambit(...args: readonly string[]): Answer {
    return this.run([process.execPath, MAIN, ...args]);
  }

  must(...args: readonly string[]): string {
    const { status, stdout, stderr } = this.ambit(...args);
    assert.equal(status, 0, `ambit ${args.join(' ')}\n${stdout}${stderr}`);
    return stdout;
  }

  workload(name: string): WorkloadView {
    const { workloads } = JSON.parse(this.must('ps', '-o', 'json')) as { workloads: readonly WorkloadView[] };
    const found = workloads.find(each => each.name === name);
    assert.ok(found !== undefined, `no workload ${name}`);
    return found;
  }

  /** Ids of the user's processes, of one program if it is named. */
  processes(...program: readonly string[]): string {
    return spawnSync('pgrep', ['-u', String(NOBODY), ...program], { encoding: 'utf8' }).stdout;
  }

  #pathWithout(hidden: readonly string[]): string {
    const folder = join(this.home, 'bin');
    mkdirSync(folder, { mode: 0o755 });
    const found = ['/usr/sbin', '/usr/bin'].flatMap(from =>
      readdirSync(from).map(name => [name, join(from, name)] as const),
    );
    for (const [name, path] of new Map(found)) if (!hidden.includes(name)) symlinkSync(path, join(folder, name));
    return folder;
  }
}
