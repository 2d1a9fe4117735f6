// What the end-to-end tests of the node proxy share: a bed of two nodes with our ztunnel on each and a root of its own,
// and the words of a ztunnel's JSON log as objects to wait for.
import { webcrypto } from 'node:crypto';
import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { SANDBOX_DIR, Testbed, type BedPolicy, type TestbedOptions, type ZtunnelProcess } from '@ambit/testbed';
import { type Authority, makeRoot } from '../../native/test/certificates.ts';

const MAIN = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));

/** The program under test. */
export const ZTUNNEL: readonly string[] = [process.execPath, MAIN, 'ztunnel'];

/** What the runner of the tests sets for itself would be an unknown setting of the product. */
export const NO_TEST_VARIABLES = Object.fromEntries(
  Object.keys(process.env).flatMap(name => (name.startsWith('AMBIT_TEST_') ? [[name, undefined]] : [])),
);

export interface LogLine {
  readonly level: string;
  readonly scope: string;
  readonly message: string;
  readonly error?: string;
  readonly direction?: 'inbound' | 'outbound';
  readonly [field: string]: unknown;
}

export interface Mesh extends AsyncDisposable {
  readonly bed: Testbed;
  /** Signs the workloads' certificates, and may sign an attacker's. */
  readonly root: Authority;
}

/** A bed on nodes n1 and n2, without pods or ztunnels. `outside`: the test runs the node agents. */
export async function makeMesh(
  enrolment: 'bed' | 'outside' = 'bed',
  options: Pick<TestbedOptions, 'dnsCapture'> = {},
): Promise<Mesh> {
  const root = await makeRoot();
  const directory = await mkdtemp(join(SANDBOX_DIR, 'ca-'));
  const certPath = join(directory, 'cert.pem');
  const keyPath = join(directory, 'key.pem');
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', root.keys.privateKey)).toString('base64');
  await writeFile(certPath, root.certPem);
  const lines = (pkcs8.match(/.{1,64}/g) ?? []).join('\n');
  await writeFile(keyPath, `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`, { mode: 0o600 });
  const bed = await Testbed.create({ nodes: ['n1', 'n2'], devCa: { certPath, keyPath }, enrolment, ...options });
  return { bed, root, [Symbol.asyncDispose]: async () => bed.close() };
}

export interface StartOptions {
  readonly command?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Our ztunnel on a node, one worker a thread count of `env`, JSON log. */
export async function startOurs(bed: Testbed, node: string, options: StartOptions = {}): Promise<ZtunnelProcess> {
  const env = {
    ...NO_TEST_VARIABLES,
    NODE_COMPILE_CACHE: join(SANDBOX_DIR, 'compile-cache'),
    RUST_LOG: 'info',
    LOG_FORMAT: 'json',
    ...options.env,
  };
  return bed.startZtunnel(node, { command: options.command ?? ZTUNNEL, env });
}

/** Lines so far that are JSON; what is not (a crash) is left out. */
export function linesOf(ztunnel: ZtunnelProcess): LogLine[] {
  return ztunnel.log().split('\n').flatMap(parseLine);
}

/** A line that was said or will be. @throws when none comes, quoting the last ones */
export async function awaitLine(
  ztunnel: ZtunnelProcess,
  wanted: (line: LogLine) => boolean,
  timeoutMs = 10_000,
): Promise<LogLine> {
  return linesOf(ztunnel).findLast(wanted) ?? awaitNewLine(ztunnel, wanted, timeoutMs);
}

/** A line that will be said. Call before causing it. */
export async function awaitNewLine(
  ztunnel: ZtunnelProcess,
  wanted: (line: LogLine) => boolean,
  timeoutMs = 10_000,
): Promise<LogLine> {
  const { promise, resolve, reject } = Promise.withResolvers<LogLine>();
  const stop = ztunnel.onLine(text => {
    const line = parseLine(text).find(wanted);
    if (line !== undefined) resolve(line);
  });
  const timer = setTimeout(() => {
    const said = ztunnel.log().split('\n').slice(-8).join('\n  ');
    reject(new Error(`ztunnel on ${ztunnel.node.name} did not say it; it said:\n  ${said}`));
  }, timeoutMs);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    stop();
  }
}

/** Sets the policies and waits until every ztunnel has loaded a version with as many. */
export async function usePolicies(
  bed: Testbed,
  ztunnels: readonly ZtunnelProcess[],
  policies: readonly BedPolicy[],
): Promise<void> {
  const loaded = ztunnels.map(async ztunnel =>
    awaitNewLine(
      ztunnel,
      line => line.message === 'local config initialized' && line['num_policies'] === policies.length,
    ),
  );
  await bed.setPolicies(policies);
  await Promise.all(loaded);
}

/** Open descriptors of the program of a ztunnel. */
export async function descriptorsOf(ztunnel: ZtunnelProcess): Promise<number> {
  return (await readdir(`/proc/${pidOf(ztunnel)}/fd`)).length;
}

/** The sandbox's `nsenter` executes the program in its own process, so this is the program itself. */
export function pidOf(ztunnel: ZtunnelProcess): number {
  const { pid } = ztunnel.process;
  if (pid === undefined) throw new Error('the ztunnel was not started');
  return pid;
}

function parseLine(text: string): LogLine[] {
  try {
    return [JSON.parse(text) as LogLine];
  } catch {
    return [];
  }
}
