// For tests only: a temporary directory, and openssl as the independent judge of everything the authority makes.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-ca-'));
  try {
    await body(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Standard output. @throws when openssl says no, with what it said */
export async function openssl(...args: readonly string[]): Promise<string> {
  const { stdout } = await run('openssl', args, { timeout: 20_000 });
  return stdout;
}

/** A request as a foreign client makes one, and its key in `DIR/NAME.key`. */
export async function makeCsr(
  directory: string,
  options: { readonly name?: string; readonly key?: string; readonly args?: readonly string[] } = {},
): Promise<string> {
  const { name = 'client', key = 'ec:prime256v1', args = [] } = options;
  const [type = '', detail = ''] = key.split(':');
  const algorithm =
    type === 'ec'
      ? ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${detail}`]
      : type === 'rsa'
        ? ['-algorithm', 'RSA', '-pkeyopt', `rsa_keygen_bits:${detail}`]
        : ['-algorithm', type];
  const file = join(directory, `${name}.key`);
  await openssl('genpkey', ...algorithm, '-out', file);
  return openssl('req', '-new', '-key', file, '-subj', '/', ...args);
}

/** Whether `chain` (leaf, intermediates, roots) verifies, at a time, and with a list of revoked certificates if given. */
export async function verifies(
  directory: string,
  chain: readonly string[],
  options: { readonly rootsPem?: string; readonly crlPem?: string; readonly atMs?: number } = {},
): Promise<boolean> {
  const { rootsPem = chain.at(-1) ?? '', crlPem, atMs } = options;
  const at = (name: string): string => join(directory, `verify-${name}.pem`);
  await writeFile(at('leaf'), chain[0] ?? '');
  await writeFile(at('roots'), rootsPem);
  await writeFile(at('chain'), chain.slice(1, -1).join(''));
  const args = ['verify', '-x509_strict', '-CAfile', at('roots')];
  if (chain.length > 2) args.push('-untrusted', at('chain'));
  if (crlPem !== undefined) {
    await writeFile(at('crl'), crlPem);
    args.push('-crl_check', '-CRLfile', at('crl'));
  }
  if (atMs !== undefined) args.push('-attime', String(Math.floor(atMs / 1000)));
  try {
    await openssl(...args, at('leaf'));
    return true;
  } catch {
    return false;
  }
}
