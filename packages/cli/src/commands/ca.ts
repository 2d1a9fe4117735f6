// `ambit ca`: what an administrator does with the certificate authority of a running control plane, over its admin socket.
// Answers on standard output, errors with their code and the next step on standard error. Exit status 0 done, 1 refused
// (no such certificate, a change of roots under way), 2 wrong usage, 3 the control plane cannot be reached.
import { join } from 'node:path';
import { errorText } from '@ambit/log';
import { askSocket, type SocketAnswer } from '../admin-socket.ts';
import { problemText } from '../render/problem.ts';

export interface CaFlags {
  /** State directory of the control plane. */
  readonly state: string;
  readonly output?: 'table' | 'json';
}

export type RevokeFlags = CaFlags & { readonly serial?: string; readonly identity?: string };

export type TokenFlags = CaFlags & {
  readonly node: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** `30d`, `12h`, `90m`. */
  readonly ttl?: string;
};

interface CertificateRow {
  readonly serial: string;
  readonly identity: string;
  readonly node: string;
  readonly notAfter: string;
  readonly isRevoked: boolean;
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

export async function caRevoke(flags: RevokeFlags): Promise<number> {
  const { serial, identity } = flags;
  if ((serial === undefined) === (identity === undefined))
    return usage('name --serial HEX or --identity SPIFFE, one of them');
  return ask(flags, 'POST', '/ca/revoke', serial === undefined ? { identity } : { serial }, ({ revoked }) => {
    const rows = toRows(revoked);
    return `${rows.map(row => `revoked ${row.serial}  ${row.identity}\n`).join('')}the lists are published\n`;
  });
}

export async function caList(flags: CaFlags): Promise<number> {
  return ask(flags, 'GET', '/ca/certificates', undefined, ({ certificates }) => {
    const rows = toRows(certificates).map(({ serial, identity, node, notAfter, isRevoked }) => {
      return [identity, node === '' ? '–' : node, notAfter.slice(0, 19), isRevoked ? 'REVOKED' : 'good', serial];
    });
    return table([['IDENTITY', 'NODE', 'NOT AFTER (UTC)', 'STATE', 'SERIAL'], ...rows]);
  });
}

export async function caRotateRoot(flags: CaFlags): Promise<number> {
  return ask(
    flags,
    'POST',
    '/ca/rotate-root',
    {},
    () =>
      'a new root is announced; it signs when every node has had time to learn it\nnext: ambit ca list -o json shows the phase\n',
  );
}

export async function caToken(flags: TokenFlags): Promise<number> {
  const { node, namespace, serviceAccount, ttl } = flags;
  const ttlSeconds = ttl === undefined ? undefined : toSeconds(ttl);
  if (ttl !== undefined && ttlSeconds === undefined) return usage(`--ttl ${ttl} is not a time such as 12h or 30d`);
  // Nothing but the token: it goes into a file, and Istio's ztunnel takes a line break in it for a part of it.
  return ask(flags, 'POST', '/ca/token', { node, namespace, serviceAccount, ttlSeconds }, ({ token }) =>
    process.stdout.isTTY ? `${String(token)}\n` : String(token),
  );
}

export async function caCrl(flags: CaFlags): Promise<number> {
  return ask(flags, 'GET', '/ca/crl', undefined, ({ crl }) => String(crl));
}

async function ask(
  flags: CaFlags,
  method: string,
  path: string,
  body: object | undefined,
  show: (json: SocketAnswer['json']) => string,
): Promise<number> {
  const socketPath = join(flags.state, 'admin.sock');
  let answer: SocketAnswer;
  try {
    answer = await askSocket(socketPath, { method, path, body });
  } catch (error) {
    complain(
      `cannot reach the control plane at ${socketPath}: ${errorText(error)}`,
      'ca.unreachable',
      'is ambit control running, with this --state, as this user?',
    );
    return 3;
  }
  const { status, json } = answer;
  if (status !== 200) {
    const { code, message, next } = json;
    complain(String(message), String(code), typeof next === 'string' ? next : undefined);
    return status === 400 ? 2 : 1;
  }
  process.stdout.write(flags.output === 'json' ? `${JSON.stringify(json, undefined, 2)}\n` : show(json));
  return 0;
}

/** Our own control plane sends these. */
function toRows(value: unknown): readonly CertificateRow[] {
  return Array.isArray(value) ? (value as CertificateRow[]) : [];
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0))) ?? [];
  return rows
    .map(
      row =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

function toSeconds(text: string): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const factor = UNIT_SECONDS[unit];
  return digits === undefined || factor === undefined ? undefined : Number(digits) * factor;
}

function usage(message: string): number {
  complain(message, 'ca.usage', 'ambit ca --help');
  return 2;
}

function complain(message: string, code: string, next: string | undefined): void {
  process.stderr.write(problemText({ message, code, next }));
}
