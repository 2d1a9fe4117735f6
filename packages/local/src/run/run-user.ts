// As whom a workload's command runs: whoever called, also through sudo. Root itself runs as root, without the right to
// change networks, since a workload that could would be able to leave the mesh.
import { spawnSync } from 'node:child_process';

export type RunUser =
  | { readonly kind: 'root' }
  /** Root by sudo: the command runs as the user who called it. */
  | { readonly kind: 'sudo'; readonly uid: number; readonly gid: number; readonly name: string }
  /** An ordinary user, whose namespaces need a user namespace around them. */
  | { readonly kind: 'user'; readonly uid: number; readonly gid: number };

type Environment = Readonly<Record<string, string | undefined>>;

export function runUser(env: Environment, uid: number, gid: number): RunUser {
  if (uid !== 0) return { kind: 'user', uid, gid };
  const sudoUid = numberOf(env['SUDO_UID']);
  const sudoGid = numberOf(env['SUDO_GID']);
  if (sudoUid === undefined || sudoGid === undefined || sudoUid === 0) return { kind: 'root' };
  return { kind: 'sudo', uid: sudoUid, gid: sudoGid, name: env['SUDO_USER'] ?? String(sudoUid) };
}

/** The command line before the command itself: what gives rights up, and ends it with its parent. */
export function dropRights(user: RunUser): string[] {
  const end = ['--pdeathsig', 'KILL'];
  switch (user.kind) {
    case 'root':
      return ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin', ...end, '--'];
    case 'sudo':
      // The death signal is forgotten when a process changes its user, so it comes last.
      return [
        'setpriv',
        `--reuid=${user.uid}`,
        `--regid=${user.gid}`,
        '--init-groups',
        '--inh-caps=-all',
        ...end,
        '--',
      ];
    case 'user':
      return ['setpriv', '--ambient-caps=-all', '--inh-caps=-all', '--bounding-set=-all', ...end, '--'];
  }
}

/** The command's environment: under sudo the user's own home and name again. */
export function runEnvironment(user: RunUser, env: Environment): Record<string, string | undefined> {
  if (user.kind !== 'sudo') return { ...env };
  const home = homeOf(user.uid);
  return { ...env, USER: user.name, LOGNAME: user.name, ...(home === undefined ? {} : { HOME: home }) };
}

function homeOf(uid: number): string | undefined {
  const { stdout } = spawnSync('getent', ['passwd', String(uid)], { encoding: 'utf8', timeout: 5_000 });
  return stdout?.split(':')[5] || undefined;
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
