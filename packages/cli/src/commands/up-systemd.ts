// The mesh of this machine as one unit of systemd: comes back after a reboot and when its supervisor dies.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { LocalError } from '@ambit/local';

const UNIT = 'ambit.service';
const UNIT_PATH = `/etc/systemd/system/${UNIT}`;

/** The unit's text. Workloads are not in its control group: they outlive a restart. */
export function unitText(command: readonly string[]): string {
  return `# Written by ambit up --systemd, removed by ambit down.
[Unit]
Description=Ambit, the mesh of this machine
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=${command.map(quoted).join(' ')}
Restart=always
RestartSec=1
KillMode=mixed
TimeoutStopSec=40
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
`;
}

/** @throws local.unsupported without systemd, local.part_failed */
export function installUnit(command: readonly string[]): void {
  if (!existsSync('/run/systemd/system')) {
    throw new LocalError('local.unsupported', 'this machine was not started by systemd', {
      next: 'ambit up without --systemd, or --foreground under another supervisor',
    });
  }
  writeFileSync(UNIT_PATH, unitText(command), { mode: 0o644 });
  systemctl('daemon-reload');
  systemctl('enable', '--now', UNIT);
}

/** Starts this mesh's unit where there is one, since systemd would start a second mesh beside another. @returns whether */
export function startUnit(dir: string | undefined): boolean {
  if (!existsSync('/run/systemd/system') || !isInstalled(dir)) return false;
  systemctl('start', UNIT);
  return true;
}

/** Removes the unit if it is this mesh's. @param dir as `--dir` named it @throws local.part_failed */
export function removeUnit(dir: string | undefined): void {
  if (!isInstalled(dir)) return;
  systemctl('disable', '--now', UNIT);
  rmSync(UNIT_PATH, { force: true });
  systemctl('daemon-reload');
}

function isInstalled(dir: string | undefined): boolean {
  return existsSync(UNIT_PATH) && isUnitOf(readFileSync(UNIT_PATH, 'utf8'), dir);
}

export function isUnitOf(text: string, dir: string | undefined): boolean {
  const command =
    text
      .split('\n')
      .find(line => line.startsWith('ExecStart='))
      ?.concat(' ') ?? '';
  return dir === undefined ? !command.includes(' --dir ') : command.includes(` --dir ${quoted(dir)} `);
}

function systemctl(...args: readonly string[]): void {
  const { status, stderr } = spawnSync('systemctl', args, { encoding: 'utf8', timeout: 60_000 });
  if (status === 0) return;
  throw new LocalError('local.part_failed', `systemctl ${args.join(' ')} failed: ${(stderr ?? '').trim()}`);
}

/** systemd.syntax(7): `%` and `$` mean something in there. */
function quoted(word: string): string {
  const escaped = word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$');
  return /^[\w./:@%=+-]+$/.test(word) ? escaped : `"${escaped}"`;
}
