// A machine with a systemd of its own as process 1: this one's files with a layer over them that lasts, and everything a
// reboot makes anew made anew. Its services are left out, but for what a boot takes.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { SANDBOX_DIR } from '@ambit/testbed';
import { type Answer, eventually, MAIN, sh } from './machine.ts';

const SYSTEMD = '/lib/systemd/systemd';
/** What would change the machine around, wait for hardware, or clear the layer's /tmp, where this project may be. */
const MASKED = [
  'dev-hugepages.mount',
  'dev-mqueue.mount',
  'getty.target',
  'kmod-static-nodes.service',
  'proc-sys-fs-binfmt_misc.automount',
  'sys-kernel-debug.mount',
  'sys-kernel-tracing.mount',
  'systemd-binfmt.service',
  'systemd-journald.service',
  'systemd-journald.socket',
  'systemd-journald-dev-log.socket',
  'systemd-journald-audit.socket',
  'systemd-logind.service',
  'systemd-modules-load.service',
  'systemd-remount-fs.service',
  'systemd-sysctl.service',
  'systemd-tmpfiles-clean.timer',
  'systemd-tmpfiles-setup.service',
  'systemd-tmpfiles-setup-dev.service',
  'systemd-udevd.service',
  'systemd-udev-trigger.service',
];
/** Runs in fresh namespaces; the first argument is the root directory. */
const BOOT = `
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
for place in run dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
mkdir "$root/dev/pts" "$root/dev/shm"
mknod -m 666 "$root/dev/null" c 1 3; mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/random" c 1 8; mknod -m 666 "$root/dev/urandom" c 1 9
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
cd "$root"; mkdir -p .before; pivot_root . .before; umount -l /.before
exec env -i container=ambit PATH=/usr/sbin:/usr/bin:/sbin:/bin ${SYSTEMD} --system --log-target=console --show-status=0`;
/** Tries what it takes, and leaves nothing. */
const TRIAL = `
set -e
mount -t tmpfs none "$1"; mkdir "$1/upper" "$1/work" "$1/root" "$1/groups"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
mknod "$1/null" c 1 3
mount -t cgroup2 none "$1/groups"; mkdir "$1/groups/ambit-trial"; rmdir "$1/groups/ambit-trial"`;

/** Why no systemd can be booted here; false: it can. */
export function cannotBoot(): string | false {
  if (!existsSync(SYSTEMD)) return 'systemd is missing: apt install systemd';
  const place = mkdtempSync(join(SANDBOX_DIR, 'trial-'));
  const { status, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', TRIAL, 'trial', place], { encoding: 'utf8' });
  rmSync(place, { recursive: true });
  return status === 0 ? false : `no systemd can be booted here: ${stderr.trim().split('\n').at(-1)}`;
}

export class SystemdMachine {
  readonly #directory = mkdtempSync(join(SANDBOX_DIR, 'systemd-'));
  readonly #group: string;
  #outer: ChildProcess | undefined;
  #init = 0;

  constructor() {
    const at = (name: string) => join(this.#directory, name);
    for (const name of ['layer', 'root', 'groups']) mkdirSync(at(name));
    sh(`mount -t tmpfs none ${at('layer')}; mkdir ${at('layer/upper')} ${at('layer/work')}`);
    sh(
      `mount -t overlay overlay -o lowerdir=/,upperdir=${at('layer/upper')},workdir=${at('layer/work')} ${at('root')}`,
    );
    sh(`mount -t cgroup2 none ${at('groups')}`);
    this.#group = mkdtempSync(at('groups/ambit-'));
    const units = at('root/etc/systemd/system');
    mkdirSync(units, { recursive: true });
    // Of a real machine's own mesh, and of what Debian's packages have switched on.
    for (const name of readdirSync(units)) rmSync(join(units, name), { recursive: true });
    for (const unit of MASKED) symlinkSync('/dev/null', join(units, unit));
    symlinkSync('/lib/systemd/system/multi-user.target', join(units, 'default.target'));
    for (const path of ['var/lib/ambit', 'run/ambit']) rmSync(at(`root/${path}`), { recursive: true, force: true });
  }

  async boot(): Promise<void> {
    const namespaces = ['--pid', '--mount', '--uts', '--ipc', '--net', '--cgroup', '--fork', '--kill-child'];
    // In its control group before the namespace of those is made: that is its root, then.
    const enter = `echo $$ > ${this.#group}/cgroup.procs; exec unshare "$@"`;
    const words = [...namespaces, 'sh', '-c', BOOT, 'boot', join(this.#directory, 'root')];
    this.#outer = spawn('sh', ['-c', enter, 'enter', ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
    const outer = this.#outer.pid ?? 0;
    await eventually(
      () => {
        const child = Number(readFileSync(`/proc/${outer}/task/${outer}/children`, 'utf8').split(' ')[0]);
        if (child === 0 || readFileSync(`/proc/${child}/comm`, 'utf8') !== 'systemd\n') return false;
        this.#init = child;
        return ['running', 'degraded'].includes(this.run('systemctl', 'is-system-running').stdout.trim());
      },
      'systemd has booted',
      60_000,
    );
  }

  /** As `reboot` typed by root: services are stopped in order, then everything begins anew. */
  async reboot(): Promise<void> {
    assert.ok(this.#outer !== undefined);
    const ended = once(this.#outer, 'close');
    this.run('systemctl', 'reboot');
    await ended;
    await this.boot();
  }

  run(...command: readonly string[]): Answer {
    const words = ['--target', String(this.#init), '--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--'];
    return spawnSync('nsenter', [...words, ...command], { encoding: 'utf8', timeout: 90_000, input: '', cwd: '/' });
  }

  must(...command: readonly string[]): string {
    const { status, stdout, stderr } = this.run(...command);
    assert.equal(status, 0, `${command.join(' ')}\n${stdout}${stderr}`);
    return stdout;
  }

  ambit(...args: readonly string[]): string {
    return this.must(process.execPath, MAIN, ...args);
  }

  async close(): Promise<void> {
    if (this.#outer?.exitCode === null) {
      const ended = once(this.#outer, 'close');
      // The first process of its process namespace: the kernel ends the others with it.
      if (this.#init !== 0) process.kill(this.#init, 'SIGKILL');
      else this.#outer.kill('SIGKILL');
      await ended;
    }
    await eventually(() => removeGroups(this.#group), 'its control groups are empty');
    sh(`umount ${['groups', 'root', 'layer'].map(name => join(this.#directory, name)).join(' ')}`);
    rmSync(this.#directory, { recursive: true });
  }
}

/** From the leaves up. @returns whether they are gone */
function removeGroups(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory() && !removeGroups(join(path, entry.name))) return false;
    }
    rmdirSync(path);
    return true;
  } catch {
    return false;
  }
}
