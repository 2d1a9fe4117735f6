// One candidate, set up and running in namespaces of its own: a fresh bed with a client pod, a server pod and a pod outside
// the mesh. Fresh each time, because what one candidate leaves in the kernel (sockets in TIME_WAIT) slows the next.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Pod, Testbed } from '@ambit/testbed';
import type { Certificates } from './certificates.ts';
import { CHAIN_HANDSHAKE_PORT, startChain } from './chains.ts';
import type { CandidateName } from './options.ts';
import { PORTS, startServers, UNREAD } from './servers.ts';

export interface Stage extends AsyncDisposable {
  readonly client: Pod;
  readonly server: Pod;
  readonly outsider: Pod;
  /** Process ids of everything between the two pods; empty for `direct`. */
  readonly proxies: readonly number[];
  /** The one of them at the server's side. */
  readonly serverProxy: number | undefined;
  /** Where it takes TLS. */
  readonly handshakePort: number | undefined;
  /** Directory of a client certificate that it accepts; undefined when there is none. */
  readonly generatorCertificates: string | undefined;
  /** Last words of the mesh proxies; empty for the others. */
  readonly lastWords: () => string;
}

export interface StageOptions {
  readonly certificates: Certificates;
  readonly workers: number;
  readonly directory: string;
  /** Program of the peer ztunnel. */
  readonly rustBinary: string | undefined;
}

const HBONE_PORT = 15008;
const ANSWER_TIMEOUT_MS = 20_000;
const PROBE_PERIOD_MS = 100;
const LAST_LINES = 5;
const CLI = join(import.meta.dirname, '..', 'packages', 'cli', 'src', 'main.ts');

/** @throws Error when something does not come up; nothing is left then */
export async function setStage(candidate: CandidateName, options: StageOptions): Promise<Stage> {
  await using closers = new AsyncDisposableStack();
  const { rootCertPath, rootKeyPath } = options.certificates;
  const bed = closers.use(
    await Testbed.create({ nodes: ['n1', 'n2'], devCa: { certPath: rootCertPath, keyPath: rootKeyPath } }),
  );
  const isMesh = ['ambit', 'ambit-off', 'ambit-1', 'rust'].includes(candidate);
  const addPod = async (node: string, name: string, enrolled: boolean) =>
    bed.addPod({ node, name, namespace: 'shop', serviceAccount: name, enrolled, l7: UNREAD });
  const client = await addPod('n1', 'web', isMesh);
  const server = await addPod('n2', 'cart', isMesh);
  const outsider = await addPod('n1', 'generator', false);
  for (const pod of [client, server, outsider]) await tuneNamespace(pod);
  await startServers(server, options.directory);
  const proxies = await startProxies(candidate, bed, { client, server }, options);
  await waitForAnswer(client, server);
  const stage = {
    client,
    server,
    outsider,
    proxies: proxies === undefined ? [] : [proxies.client, proxies.server],
    serverProxy: proxies?.server,
    lastWords: proxies?.lastWords ?? (() => ''),
    handshakePort: candidate === 'direct' ? undefined : isMesh ? HBONE_PORT : CHAIN_HANDSHAKE_PORT,
    generatorCertificates: options.certificates.generator[candidate === 'rust' ? 'peer' : 'own'],
  };
  const owned = closers.move();
  return { ...stage, [Symbol.asyncDispose]: async () => owned.disposeAsync() };
}

interface ProxyPids {
  readonly client: number;
  readonly server: number;
  readonly lastWords?: () => string;
}

async function startProxies(
  candidate: CandidateName,
  bed: Testbed,
  pods: { readonly client: Pod; readonly server: Pod },
  options: StageOptions,
): Promise<ProxyPids | undefined> {
  switch (candidate) {
    case 'direct':
      return undefined;
    case 'haproxy':
    case 'nginx':
      return startChain(candidate, pods, options);
    case 'ambit':
      return startZtunnels(bed, [process.execPath, CLI, 'ztunnel'], ambitEnvironment(options, options.workers));
    case 'ambit-off': {
      const env = { ...ambitEnvironment(options, options.workers), AMBIT_L7: 'off' };
      return startZtunnels(bed, [process.execPath, CLI, 'ztunnel'], env);
    }
    case 'ambit-1':
      return startZtunnels(bed, [process.execPath, CLI, 'ztunnel'], ambitEnvironment(options, 1));
    case 'rust': {
      if (options.rustBinary === undefined) throw new Error('the peer needs ZTUNNEL_BIN');
      const env = { FAKE_CA: 'true', RUST_LOG: 'error', ZTUNNEL_WORKER_THREADS: String(options.workers) };
      return startZtunnels(bed, [options.rustBinary], env);
    }
  }
}

function ambitEnvironment(options: StageOptions, workers: number): Record<string, string> {
  const NODE_COMPILE_CACHE = join(options.directory, 'compile-cache');
  return { RUST_LOG: 'error', ZTUNNEL_WORKER_THREADS: String(workers), NODE_COMPILE_CACHE };
}

async function startZtunnels(
  bed: Testbed,
  command: readonly string[],
  env: Record<string, string>,
): Promise<ProxyPids> {
  const start = async (node: string) => bed.startZtunnel(node, { command, env });
  const [server, client] = await Promise.all([start('n2'), start('n1')]);
  return {
    // They are ready, so they have process ids.
    server: server.process.pid ?? 0,
    client: client.process.pid ?? 0,
    lastWords: () => [client, server].flatMap(one => one.log().split('\n').slice(-LAST_LINES)).join('\n'),
  };
}

/** Ready is not yet serving: the first certificates may still be on their way. @throws Error at the deadline */
async function waitForAnswer(client: Pod, server: Pod): Promise<void> {
  const deadline = Date.now() + ANSWER_TIMEOUT_MS;
  const url = `http://${server.ip4}:${PORTS.http}/`;
  for (;;) {
    const { code, stderr } = await client.run('curl', ['-sSf', '-m', '2', '-o', '/dev/null', url]);
    if (code === 0) return;
    if (Date.now() > deadline) throw new Error(`no answer through the proxies: ${stderr.trim()}`);
    await delay(PROBE_PERIOD_MS);
  }
}

/**
 * A connection per request uses up the usual 28 000 ports within seconds. And the system's choice of congestion control must
 * not decide: BBR keeps an estimate of the path in every connection, so a long-lived tunnel's bulk would depend on the
 * requests before it. Where cubic is not allowed in namespaces, Reno always is.
 */
async function tuneNamespace(pod: Pod): Promise<void> {
  const set = async (setting: string) => pod.run('sysctl', ['-q', '-w', `net.ipv4.${setting}`], { env: process.env });
  const results = [await set('ip_local_port_range=30000 65535'), await set('tcp_congestion_control=cubic')];
  if (results[1]?.code !== 0) results[1] = await set('tcp_congestion_control=reno');
  const failed = results.find(result => result.code !== 0);
  if (failed !== undefined) throw new Error(`sysctl failed: ${failed.stderr.trim()}`);
}
