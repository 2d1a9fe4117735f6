// An independent name server (unbound) in a pod of the bed, authoritative for zone.test, and dig as the client: what comes
// through the proxy is compared with what the server says itself.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { type Pod, SANDBOX_DIR } from '@ambit/testbed';

/** Addresses of large.zone.test; too many for any UDP answer a client asks for. */
export const LARGE = 256;
const BIG_TEXT = ['x', 'y', 'z'].map(letter => letter.repeat(200));

const RECORDS: readonly string[] = [
  'zone.test. 300 IN SOA ns.zone.test. admin.zone.test. 7 3600 600 86400 60',
  'zone.test. 300 IN NS ns.zone.test.',
  'ns.zone.test. 300 IN A 192.0.2.53',
  'www.zone.test. 300 IN A 192.0.2.1',
  'www.zone.test. 300 IN AAAA 2001:db8::1',
  'short.zone.test. 1 IN A 192.0.2.7',
  'alias.zone.test. 300 IN CNAME www.zone.test.',
  'mail.zone.test. 300 IN MX 10 www.zone.test.',
  '_web._tcp.zone.test. 300 IN SRV 1 2 80 www.zone.test.',
  String.raw`odd.zone.test. 300 IN TYPE65280 \# 4 0a000001`,
  `text.zone.test. 300 IN TXT ${BIG_TEXT.map(text => `"${text}"`).join(' ')}`,
  ...Array.from({ length: LARGE }, (_, index) => `large.zone.test. 300 IN A 198.51.100.${index}`),
];

/** Serves zone.test in the pod, on port 53 of its address. */
export async function serveZone(pod: Pod): Promise<ChildProcess> {
  const directory = await mkdtemp(join(SANDBOX_DIR, 'unbound-'));
  const path = join(directory, 'unbound.conf');
  const config = [
    'server:',
    '  do-daemonize: no',
    '  username: ""',
    '  chroot: ""',
    `  directory: "${directory}"`,
    '  pidfile: ""',
    '  use-syslog: no',
    `  interface: ${pod.ip4}`,
    `  interface: ${pod.ip6}`,
    '  access-control: 0.0.0.0/0 allow',
    '  access-control: ::/0 allow',
    '  module-config: "iterator"',
    // Whatever else is asked does not exist; there is no other server to ask.
    '  local-zone: "." static',
    '  local-zone: "zone.test." static',
    ...RECORDS.map(record => `  local-data: '${record}'`),
  ];
  await writeFile(path, `${config.join('\n')}\n`);
  const server = pod.exec('unbound', ['-d', '-c', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  if (server.stderr === null) throw new Error('invariant: its words come through a pipe');
  let said = '';
  for await (const chunk of server.stderr) {
    said += String(chunk);
    if (said.includes('start of service')) return server;
  }
  throw new Error(`unbound ended: ${said}`);
}

/** What dig understood. Records as `name type data`, in order of text. */
export interface Dug {
  readonly status: string;
  readonly flags: readonly string[];
  readonly answers: readonly string[];
  readonly authority: readonly string[];
  readonly ttls: readonly number[];
  readonly edns: string | undefined;
  readonly text: string;
}

/** Asks in the pod. Without a server among `args` it is the one of its resolv.conf, so name one. */
export async function dig(pod: Pod, ...args: readonly string[]): Promise<Dug> {
  const { stdout, stderr } = await pod.run('dig', ['+nocookie', '+tries=1', '+timeout=8', ...args], {
    timeoutMs: 15_000,
  });
  const section = (name: string): string[] => {
    const found = new RegExp(`;; ${name} SECTION:\n([^]*?)\n\n`).exec(stdout);
    return found?.[1]?.split('\n') ?? [];
  };
  const record = (line: string): string => {
    const [name, , , ...rest] = line.split(/\s+/);
    return [name, ...rest].join(' ');
  };
  const answers = section('ANSWER');
  return {
    status: /status: (\w+)/.exec(stdout)?.[1] ?? `none: ${stdout}${stderr}`,
    flags: /;; flags: ([^;]*);/.exec(stdout)?.[1]?.split(' ') ?? [],
    answers: answers.map(record).toSorted(),
    authority: section('AUTHORITY').map(record),
    ttls: answers.map(line => Number(line.split(/\s+/)[1])),
    edns: /; EDNS: (.*)/.exec(stdout)?.[1],
    text: stdout,
  };
}
