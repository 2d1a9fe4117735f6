// What runs in the server pod: nginx for requests, iperf3 for bulk, an echo server for idle connections. Ready means that
// each accepts connections from inside the pod.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Pod } from '@ambit/testbed';

/** The same server twice where reading requests is measured: the mesh reads one port and leaves the other (`UNREAD`). */
export const PORTS = { http: 8080, httpUnread: 8081, bulk: 5201, bulkUnread: 5202, echo: 9000 } as const;
/** The pods' annotation `ambit.io/l7`. */
export const UNREAD = `${PORTS.httpUnread}=off,${PORTS.bulkUnread}=off`;

const READY_TIMEOUT_MS = 10_000;
const PROBE_PERIOD_MS = 50;

/** Starts them; they end with the pod. @throws Error when one does not come up */
export async function startServers(pod: Pod, directory: string): Promise<void> {
  const config = join(directory, 'server-nginx.conf');
  await writeFile(config, nginxConfig(directory));
  pod.exec('nginx', ['-c', config, '-e', 'stderr'], { stdio: 'ignore' });
  for (const port of [PORTS.bulk, PORTS.bulkUnread])
    pod.exec('iperf3', ['-s', '-p', String(port)], { stdio: 'ignore' });
  const echo = join(import.meta.dirname, 'load', 'echo-server.ts');
  pod.exec(process.execPath, [echo, String(PORTS.echo)], { stdio: 'ignore' });
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (const port of Object.values(PORTS)) await waitForPort(pod, port, deadline);
}

/** Looks into the pod's own socket table, so that no server sees a probe. @throws Error at the deadline */
export async function waitForPort(pod: Pod, port: number, deadline: number): Promise<void> {
  for (;;) {
    const { stdout } = await pod.run('ss', ['-Hltn', `sport = :${port}`]);
    if (stdout.trim() !== '') return;
    if (Date.now() > deadline) throw new Error(`nothing listens on port ${port} in ${pod.netns}`);
    await delay(PROBE_PERIOD_MS);
  }
}

function nginxConfig(directory: string): string {
  return `
daemon off;
worker_processes 1;
pid ${directory}/server-nginx.pid;
error_log /dev/null;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600;
  client_body_temp_path ${directory}/server-body;
  proxy_temp_path ${directory}/server-proxy;
  fastcgi_temp_path ${directory}/server-fastcgi;
  uwsgi_temp_path ${directory}/server-uwsgi;
  scgi_temp_path ${directory}/server-scgi;
  server {
    listen ${PORTS.http} reuseport backlog=4096;
    listen [::]:${PORTS.http} reuseport backlog=4096;
    listen ${PORTS.httpUnread} reuseport backlog=4096;
    listen [::]:${PORTS.httpUnread} reuseport backlog=4096;
    location / { default_type text/plain; return 200 "hello from the bench\\n"; }
  }
}`;
}
