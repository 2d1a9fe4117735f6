// The programs that end-to-end tests and the demo use as real peers, and the Debian packages they come from. Missing
// ones are installed when we are root on a Debian, with their services left off. Nothing here may fail a run: a test
// that lacks its program skips and says so. Plain JavaScript for Node 20.

import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { env, getuid, pid } from 'node:process';
import { step } from './progress.mjs';

/** Any one of `programs` will do; `unit` is the service that installing would switch on. */
const NEEDED = [
  { programs: ['nft'], packageName: 'nftables', unit: 'nftables' },
  { programs: ['ip'], packageName: 'iproute2' },
  { programs: ['iptables-nft'], packageName: 'iptables' },
  { programs: ['unshare'], packageName: 'util-linux' },
  { programs: ['ps'], packageName: 'procps' },
  { programs: ['curl'], packageName: 'curl' },
  { programs: ['openssl'], packageName: 'openssl' },
  { programs: ['iperf3'], packageName: 'iperf3', unit: 'iperf3' },
  { programs: ['h2load'], packageName: 'nghttp2-client' },
  { programs: ['nghttpd'], packageName: 'nghttp2-server' },
  { programs: ['nghttpx'], packageName: 'nghttp2-proxy', unit: 'nghttpx' },
  { programs: ['dig'], packageName: 'bind9-dnsutils' },
  { programs: ['dnsmasq'], packageName: 'dnsmasq-base' },
  { programs: ['unbound'], packageName: 'unbound', unit: 'unbound' },
  { programs: ['dnsperf'], packageName: 'dnsperf' },
  { programs: ['musl-gcc'], packageName: 'musl-tools' },
  { programs: ['nginx'], packageName: 'nginx-light', unit: 'nginx' },
  { programs: ['/usr/lib/cni/bridge'], packageName: 'containernetworking-plugins' },
  { programs: ['podman'], packageName: 'podman', unit: 'podman.socket' },
  { programs: ['pasta'], packageName: 'passt' },
  { programs: ['/lib/systemd/systemd'], packageName: 'systemd' },
  // A shell without libraries, of which the tests make an image.
  { programs: ['busybox'], packageName: 'busybox-static' },
  { programs: ['redis-server'], packageName: 'redis-server', unit: 'redis-server' },
  { programs: ['/usr/lib/postgresql'], packageName: 'postgresql', unit: 'postgresql' },
  { programs: ['wrk'], packageName: 'wrk' },
  { programs: ['prometheus'], packageName: 'prometheus', unit: 'prometheus' },
];

const POLICY = '/usr/sbin/policy-rc.d';

/** Names of the Debian packages that are needed and not there. */
export function missingPackages() {
  return NEEDED.filter(({ programs }) => !programs.some(isOnPath)).map(({ packageName }) => packageName);
}

/** By its name, or its path if it has no place among the others. */
function isOnPath(program) {
  if (program.startsWith('/')) return existsSync(program);
  // Users who are not root often lack the sbin folders.
  const folders = [...(env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders.some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Installs what is missing if that is in our power, else says in one sentence what to install. Never throws. */
export async function checkSystemPackages() {
  const missing = missingPackages();
  if (missing.length === 0) return;
  const advice = `some end-to-end tests will skip; to run them: apt-get install ${missing.join(' ')}`;
  if (getuid?.() !== 0 || !isOnPath('apt-get')) {
    console.error(`  note   ${advice}`);
    return;
  }
  try {
    await step(`install Debian packages ${missing.join(' ')}`, () => withServicesOff(() => aptInstall(missing)));
    for (const { packageName, unit } of NEEDED) {
      if (unit !== undefined && missing.includes(packageName) && isOnPath('systemctl')) {
        await run('systemctl', ['disable', unit]).catch(() => undefined);
      }
    }
  } catch (error) {
    console.error(`  note   apt-get did not manage (${error.message}): ${advice}`);
  }
}

async function aptInstall(packages) {
  const options = ['-o', 'DPkg::Lock::Timeout=60', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=30'];
  const install = ['install', '-y', '-q', '--no-install-recommends', ...options, ...packages];
  try {
    await run('apt-get', install);
  } catch {
    // The usual reason: package lists that are old or were never fetched.
    await run('apt-get', ['update', '-q', ...options]);
    await run('apt-get', install);
  }
}

/** Debian starts services while it installs them unless this script refuses; it steps aside once we are gone. */
async function withServicesOff(work) {
  const isOurs = !existsSync(POLICY);
  if (isOurs) writeFileSync(POLICY, `#!/bin/sh\nkill -0 ${pid} 2>/dev/null && exit 101\nrm -f "$0"\n`, { mode: 0o755 });
  try {
    await work();
  } finally {
    if (isOurs) rmSync(POLICY, { force: true });
  }
}

/** Runs to the end; rejects with the last line of output when the status is not 0. */
function run(command, args) {
  return new Promise((resolve, reject) => {
    const options = {
      env: { ...env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
    };
    const child = spawn(command, args, options);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', chunk => {
        output = (output + chunk).slice(-4_000);
      });
    }
    child.on('error', reject);
    child.on('close', code => {
      if (code === 0) resolve();
      else reject(new Error(output.trim().split('\n').pop() || `${command} ended with status ${code}`));
    });
  });
}
