// The way out of a user's own mesh: pasta (of the Debian package passt) or slirp4netns, one process for the network that
// the supervisor holds. It runs outside that network, as the user, beside a shell that starts it again when it ends and
// ends it with the supervisor, however that ends. Nothing comes in by it, and the host's loopback is out of its reach.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { listRoutes, MAIN_TABLE } from '@ambit/native';
import { forwardedResolvConf } from '../resolver-files.ts';

/** In the order of preference. */
export const WAY_OUT_TOOLS = ['pasta', 'slirp4netns'] as const;
export type WayOutTool = (typeof WAY_OUT_TOOLS)[number];

export interface WayOutStatus {
  readonly tool: WayOutTool;
  /** Whether the network had a way out when the parts were started. */
  readonly isThere: boolean;
}

/** Address inside at which each answers for the host's first resolver, which may be on the host's loopback. */
const RESOLVER: Readonly<Record<WayOutTool, string>> = { pasta: '169.254.1.1', slirp4netns: '10.0.2.3' };
/** The supervisor's end of the leash. */
const LEASH_FD = 3;
const TIMEOUT_MS = 5_000;
const PERIOD_MS = 50;
const RESOLV_CONF = '/etc/resolv.conf';

/**
 * Standard input is the leash: a line says that the namespaces are there, its end that the supervisor is gone, and then the
 * whole process group goes. One that keeps failing is tried again after up to 32 s; its log holds the last try.
 */
const KEEPER = `
log=$1; shift
read -r word || exit 0
(
  pause=1
  while :; do
    began=$(date +%s)
    "$@" >"$log" 2>&1
    [ $(($(date +%s) - began)) -lt 30 ] || pause=1
    sleep $pause
    [ $pause -ge 32 ] || pause=$((pause * 2))
  done
) &
while read -r word; do :; done
kill -TERM 0`;

/** The first that is installed; undefined: none. */
export function findWayOut(env: Readonly<Record<string, string | undefined>>): WayOutTool | undefined {
  const folders = (env['PATH'] ?? '').split(delimiter).filter(each => each !== '');
  return WAY_OUT_TOOLS.find(tool => folders.some(folder => isProgram(join(folder, tool))));
}

/** Starts it for a supervisor that was started with a pipe as its descriptor 3, and lets go of both. */
export function keepWayOut(tool: WayOutTool, supervisor: ChildProcess, logPath: string): void {
  // A stream of kind 'pipe' is a socket; it is missing when the program could not be started.
  const leash = (supervisor.stdio[LEASH_FD] ?? undefined) as Socket | undefined;
  if (leash === undefined || supervisor.pid === undefined) return;
  const words = ['-c', KEEPER, 'ambit-way-out', logPath, ...wayOutCommand(tool, supervisor.pid)];
  spawn('sh', words, { cwd: '/', detached: true, stdio: [leash, 'ignore', 'ignore'] }).unref();
  leash.destroy();
}

/** Pure. @param pid process whose user and network namespaces are meant */
export function wayOutCommand(tool: WayOutTool, pid: number): readonly string[] {
  if (tool === 'slirp4netns') {
    return [tool, '--configure', '--mtu=65520', '--disable-host-loopback', String(pid), 'tap0'];
  }
  const noPorts = ['-t', '-u', '-T', '-U'].flatMap(flag => [flag, 'none']);
  const options = ['--foreground', '--quiet', '--config-net', '--no-map-gw', '--dns-forward', RESOLVER.pasta];
  return [tool, ...options, ...noPorts, String(pid)];
}

/** Asks for it from inside, and waits until the network has it, 5 s at most. */
export async function awaitWayOut(tool: WayOutTool): Promise<WayOutStatus> {
  writeSync(LEASH_FD, 'go\n');
  const end = performance.now() + TIMEOUT_MS;
  while (!hasWayOut() && performance.now() < end) await delay(PERIOD_MS);
  return { tool, isThere: hasWayOut() };
}

/**
 * Inside, a resolver on the host's loopback is another loopback's: then, in this mount namespace only, the file names the
 * address that leads to it. @param path the file to write and mount over
 */
export function mountResolvers(tool: WayOutTool, path: string): void {
  const text = forwardedResolvConf(readFileSync(RESOLV_CONF, 'utf8'), RESOLVER[tool]);
  if (text === undefined) return;
  writeFileSync(path, text, { mode: 0o644 });
  const { status, stderr } = spawnSync('mount', ['--bind', path, RESOLV_CONF], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cannot mount ${RESOLV_CONF}: ${stderr.trim()}`);
}

function hasWayOut(): boolean {
  return listRoutes(MAIN_TABLE).some(({ to }) => to === '0.0.0.0/0' || to === '::/0');
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
