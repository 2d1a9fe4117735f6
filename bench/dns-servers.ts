// The servers that bench/dns.ts compares, started in pods of the testbed, and the resolver they all forward to.
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { type Pod, SANDBOX_DIR, type Testbed } from '@ambit/testbed';

export interface Server {
  readonly name: string;
  readonly pod: Pod;
  readonly port: number;
  readonly pid: number;
  /** What it is asked. */
  readonly rows: readonly string[];
}

/** The name of the mesh, which each server knows itself. */
export const CART = 'cart.shop.svc.cluster.local';
const ALL_ROWS = ['own', 'kept', 'fresh'];
const PROXY_PORT = 15_053;
const DNSMASQ_PORT = 5301;
const UNBOUND_PORT = 5302;
const CLI = join(import.meta.dirname, '..', 'packages', 'cli', 'src', 'main.ts');

/**
 * Our proxy serves the pod `web`. Each peer runs twice: in the same pod, whose network has the mesh's rules (every packet costs
 * connection tracking there), and in one outside the mesh, since what it forwards from `web` would be redirected to our proxy.
 */
export async function startServers(bed: Testbed, workers: string): Promise<readonly Server[]> {
  const add = async (name: string, node: string, enrolled: boolean): Promise<Pod> =>
    bed.addPod({ node, name, namespace: 'shop', serviceAccount: name, enrolled });
  const web = await add('web', 'n1', true);
  await add('cart', 'n2', true);
  const beside = await add('beside', 'n1', false);
  const resolver = await add('resolver', 'n2', false);
  const service = await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: 8080 } });
  const vip = service.vips.find(({ ip }) => !ip.includes(':'))?.ip ?? '';
  const zone = (name: string, ttl: number): string[] => [
    `local-zone: "${name}." redirect`,
    `local-data: "${name}. ${ttl} IN A 192.0.2.9"`,
  ];
  await startUnbound(
    resolver,
    'resolver',
    resolver.ip4,
    53,
    [...zone('kept.test', 3600), ...zone('fresh.test', 0)],
    [],
  );
  const resolvConf = join(SANDBOX_DIR, 'resolv.conf');
  await writeFile(resolvConf, `nameserver ${resolver.ip4}\n`);
  const ambit = await bed.startZtunnel('n1', {
    command: [process.execPath, CLI, 'ztunnel'],
    env: { AMBIT_RESOLV_CONF: resolvConf, ZTUNNEL_WORKER_THREADS: workers, RUST_LOG: 'error', ...(await authority()) },
  });
  const servers: Server[] = [
    { name: 'ambit', pod: web, port: PROXY_PORT, pid: ambit.process.pid ?? 0, rows: ALL_ROWS },
  ];
  for (const pod of [web, beside]) {
    const rows = pod === web ? ['own', 'kept'] : ['fresh'];
    const dnsmasq = await startDnsmasq(pod, vip, resolver.ip4);
    const unbound = await startUnbound(
      pod,
      pod.name,
      '127.0.0.1',
      UNBOUND_PORT,
      ['num-threads: 2', 'so-reuseport: yes', `local-data: "${CART}. 30 IN A ${vip}"`, 'local-zone: "test." nodefault'],
      ['forward-zone:', '  name: "."', `  forward-addr: ${resolver.ip4}`],
    );
    servers.push({ name: 'dnsmasq', pod, port: DNSMASQ_PORT, pid: dnsmasq.pid ?? 0, rows });
    servers.push({ name: 'unbound', pod, port: UNBOUND_PORT, pid: unbound.pid ?? 0, rows });
  }
  return servers;
}

async function startDnsmasq(pod: Pod, vip: string, resolver: string): Promise<ChildProcess> {
  const dnsmasq = pod.exec(
    'dnsmasq',
    [
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--no-resolv',
      '--no-hosts',
      '--user=root',
      '--pid-file=',
      '--cache-size=10000',
      '--dns-forward-max=1000',
      '--listen-address=127.0.0.1',
      '--bind-interfaces',
      `--port=${DNSMASQ_PORT}`,
      `--server=${resolver}`,
      `--host-record=${CART},${vip}`,
    ],
    { stdio: 'ignore' },
  );
  await once(dnsmasq, 'spawn');
  return dnsmasq;
}

/** A proxy gets ready only with an authority; that this one's key is none does not matter to names. */
async function authority(): Promise<Readonly<Record<string, string>>> {
  const { generateDevRoot } = await import('@ambit/ztunnel');
  const { certPem, keyPem } = await generateDevRoot();
  const paths = { cert: join(SANDBOX_DIR, 'dns-ca.pem'), key: join(SANDBOX_DIR, 'dns-ca.key') };
  await writeFile(paths.cert, certPem);
  await writeFile(paths.key, keyPem, { mode: 0o600 });
  return { AMBIT_DEV_CA_CERT: paths.cert, AMBIT_DEV_CA_KEY: paths.key };
}

async function startUnbound(
  pod: Pod,
  name: string,
  ip: string,
  port: number,
  own: readonly string[],
  more: readonly string[],
): Promise<ChildProcess> {
  const path = join(SANDBOX_DIR, `unbound-${name}.conf`);
  const server = [
    'do-daemonize: no',
    'username: ""',
    'chroot: ""',
    `directory: "${SANDBOX_DIR}"`,
    'pidfile: ""',
    'use-syslog: no',
    'module-config: "iterator"',
    'outgoing-range: 4096',
    'num-queries-per-thread: 2048',
    `interface: ${ip}@${port}`,
    'access-control: 0.0.0.0/0 allow',
    ...own,
  ];
  await writeFile(path, ['server:', ...server.map(line => `  ${line}`), ...more, ''].join('\n'));
  const child = pod.exec('unbound', ['-d', '-c', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  if (child.stderr === null) throw new Error('invariant: its words come through a pipe');
  let said = '';
  for await (const chunk of child.stderr) {
    said += String(chunk);
    if (said.includes('start of service')) return child;
  }
  throw new Error(`unbound ended: ${said}`);
}
