// The ordinary way to do this without a mesh: a TCP proxy at each end with mutual TLS 1.3 between them, by HAProxy or by
// nginx. One tunnel connection per connection, no identities, no policies: a scale for the cost of the bytes themselves.
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun, type Pod } from '@ambit/testbed';
import type { Certificates } from './certificates.ts';
import { PORTS, waitForPort } from './servers.ts';

export type ChainKind = 'haproxy' | 'nginx';

/** Where the client end takes connections over, and where the server end expects TLS. */
const TAKEN = 10_000;
const TUNNEL = 20_000;
/** The tunnel's port of the echo server, which the generator of handshakes speaks to. */
export const CHAIN_HANDSHAKE_PORT = PORTS.echo + TUNNEL;
const READY_TIMEOUT_MS = 10_000;

interface End {
  readonly side: 'client' | 'server';
  readonly pod: Pod;
  readonly account: string;
  /** Where each port leads to. */
  readonly target: (port: number) => string;
}

/** Starts both ends; they end with their pods. @returns their process ids. @throws Error when one does not come up */
export async function startChain(
  kind: ChainKind,
  pods: { readonly client: Pod; readonly server: Pod },
  options: { readonly certificates: Certificates; readonly workers: number },
): Promise<{ readonly client: number; readonly server: number }> {
  const { client, server } = pods;
  const target = (port: number) => `127.0.0.1:${port}`;
  const tunnel = (port: number) => `${server.ip4}:${port + TUNNEL}`;
  const serverPid = await startEnd(kind, { side: 'server', pod: server, account: 'cart', target }, options);
  const clientPid = await startEnd(kind, { side: 'client', pod: client, account: 'web', target: tunnel }, options);
  await client.run('nft', ['-f', '-'], { input: redirection(server.ip4) });
  return { client: clientPid, server: serverPid };
}

async function startEnd(
  kind: ChainKind,
  end: End,
  options: { readonly certificates: Certificates; readonly workers: number },
): Promise<number> {
  const { directory } = options.certificates;
  const path = join(directory, `${kind}-${end.side}.conf`);
  const render = kind === 'haproxy' ? haproxyConfig : nginxConfig;
  await writeFile(path, await render(end, directory, options.workers));
  const command = kind === 'haproxy' ? ['haproxy', '-db', '-f', path] : ['nginx', '-c', path, '-e', 'stderr'];
  const child = end.pod.exec('sh', ['-c', 'ulimit -n $(ulimit -Hn); exec "$@"', 'sh', ...command], { stdio: 'ignore' });
  if (child.pid === undefined) await once(child, 'spawn'); // throws why it could not be started
  const port = PORTS.echo + (end.side === 'client' ? TAKEN : TUNNEL);
  await waitForPort(end.pod, port, Date.now() + READY_TIMEOUT_MS);
  return child.pid ?? 0;
}

function redirection(serverIp: string): string {
  const rules = Object.values(PORTS).map(p => `    ip daddr ${serverIp} tcp dport ${p} redirect to :${p + TAKEN}`);
  return `table inet bench {
  chain output {
    type nat hook output priority -100;
${rules.join('\n')}
  }
}`;
}

function haproxyConfig(end: End, directory: string, workers: number): string {
  const tls = `ssl crt ${directory}/${end.account}.both ca-file ${directory}/root.pem verify required ssl-min-ver TLSv1.3`;
  const parts = Object.values(PORTS).map(port => {
    const [bind, onward] = end.side === 'client' ? [`:${port + TAKEN}`, ` ${tls}`] : [`:${port + TUNNEL} ${tls}`, ''];
    return `listen port${port}\n  bind ${bind}\n  server next ${end.target(port)}${onward}`;
  });
  return `global
  nbthread ${workers}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
${parts.join('\n')}
`;
}

async function nginxConfig(end: End, directory: string, workers: number): Promise<string> {
  const own = (prefix: string) =>
    `${prefix}_certificate ${directory}/${end.account}.pem; ${prefix}_certificate_key ${directory}/${end.account}.key;
    ${prefix}_protocols TLSv1.3;`;
  const onward = `proxy_ssl on; ${own('proxy_ssl')} proxy_ssl_trusted_certificate ${directory}/root.pem;
    proxy_ssl_verify on; proxy_ssl_name cart.bench;`;
  const inward = `${own('ssl')} ssl_client_certificate ${directory}/root.pem; ssl_verify_client on;`;
  const parts = Object.values(PORTS).map(port => {
    const [listen, tls] = end.side === 'client' ? [`${port + TAKEN}`, onward] : [`${port + TUNNEL} ssl`, inward];
    return `  server {
    listen ${listen} backlog=4096; proxy_pass ${end.target(port)}; proxy_timeout 1h;
    ${tls}
  }`;
  });
  return `${await streamModule()}
daemon off;
worker_processes ${workers};
pid ${directory}/nginx-${end.side}.pid;
error_log /dev/null;
events { worker_connections 20000; }
stream {
${parts.join('\n')}
}`;
}

/** Debian's nginx has it as a module, others built in. */
async function streamModule(): Promise<string> {
  const isDynamic = (await mustRun('sh', ['-c', 'nginx -V 2>&1'])).includes('--with-stream=dynamic');
  return isDynamic ? 'load_module modules/ngx_stream_module.so;' : '';
}
