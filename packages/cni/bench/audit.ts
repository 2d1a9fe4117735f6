// Prints what the continuous proof costs the agent: CPU a minute for pods that are as they should be, with rules, listeners and
// canaries over both families. Asserts nothing. In place of ztunnel another process answers every canary at once. As root:
// `node packages/cni/bench/audit.ts [pods] [seconds]`; it changes only namespaces of its own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { SILENT_LOG } from '@ambit/log';
import type { CanaryAnswer } from '@ambit/mesh';
import {
  addAddress,
  addVeth,
  bindTo,
  createNetNs,
  findLink,
  listenTcp,
  NetNs,
  openUdp,
  replaceRoute,
  setLink,
  setOpenFileLimitToMax,
} from '@ambit/native';
import { Auditor } from '../src/audit/auditor.ts';
import type { AuditedPod, AuditSubject } from '../src/audit/audit-types.ts';
import { NftablesBackend } from '../src/redirect/nft-backend.ts';
import type { RedirectPlan } from '../src/redirect/redirect-plan.ts';
import { DEFAULT_PROBE_SNAT } from '../src/redirect/redirect-rules.ts';

const PLAN: RedirectPlan = {
  dnsCapture: true,
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};
const CAPTURE_PORT = 15001;
const SILENT_PORTS = [15006, 15008, 15053];
const DAY_MS = 86_400_000;

interface BenchPod {
  readonly netns: NetNs;
  readonly ips: readonly string[];
}

if (process.argv[2] === 'answer') answer();
else await measure(Number(process.argv[2] ?? 250), Number(process.argv[3] ?? 60));

async function measure(count: number, seconds: number): Promise<void> {
  setOpenFileLimitToMax();
  const backend = new NftablesBackend();
  const pods = Array.from({ length: count }, (_, i) => makePod(i));
  for (const { netns } of pods) await backend.apply(netns, PLAN);
  const proxy = fork(import.meta.filename, ['answer']);
  proxy.send(pods.map(({ netns }, i) => ({ path: `/proc/${process.pid}/fd/${netns.fd.number}`, name: nameOf(i) })));
  await once(proxy, 'message');

  const auditor = new Auditor({ subject: subjectOf(pods), backend, log: SILENT_LOG, hostRoot: '' }, { repair: true });
  const first = performance.now();
  await auditor.run({ repair: true, signal: AbortSignal.timeout(60_000) });
  console.log(`first look at ${count} pods, canaries included: ${(performance.now() - first).toFixed(0)} ms`);
  auditor.start();
  const before = process.cpuUsage();
  const runsBefore = auditor.counters.runs;
  await delay(seconds * 1000);
  const { user, system } = process.cpuUsage(before);
  const perMinute = ((user + system) / 1e6) * (60 / seconds);
  const runs = auditor.counters.runs - runsBefore;
  const answered = [...auditor.watches].filter(({ canary }) => canary.last?.kind === 'answered').length;
  console.log(`CPU a minute: ${perMinute.toFixed(2)} s (user ${share(user)}, system ${share(system)})`);
  console.log(
    `looks at all: ${runs}, each ${auditor.counters.lastRunMs.toFixed(0)} ms; canaries answered: ${answered}`,
  );
  console.log(
    `findings: ${auditor.findings().length}; resident: ${(process.memoryUsage.rss() / 2 ** 20).toFixed(0)} MB`,
  );
  await auditor.close();
  proxy.kill();
  await once(proxy, 'exit');
  for (const { netns } of pods) netns.close();

  function share(micros: number): string {
    return `${((micros / 1e6) * (60 / seconds)).toFixed(2)} s`;
  }
}

function makePod(i: number): BenchPod {
  const netns = createNetNs();
  const ips = [`10.9.${i >> 8}.${i & 255}`, `fd09::${(i + 1).toString(16)}`];
  netns.run(() => {
    setLink(1, { up: true });
    addVeth('eth0', 'wire0', {});
    const link = findLink('eth0');
    const other = findLink('wire0');
    if (link === undefined || other === undefined) throw new Error('no veth');
    setLink(link.index, { up: true });
    setLink(other.index, { up: true });
    addAddress(link.index, `${ips[0]}/32`);
    addAddress(link.index, `${ips[1]}/128`);
    replaceRoute({ to: '0.0.0.0/0', device: link.index });
    replaceRoute({ to: '::/0', device: link.index });
  });
  return { netns, ips };
}

function subjectOf(pods: readonly BenchPod[]): AuditSubject {
  const audited: AuditedPod[] = pods.map(({ netns, ips }, i) => ({
    pod: {
      uid: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
      name: nameOf(i),
      namespace: 'bench',
      serviceAccount: 'default',
      labels: {},
      annotations: {},
      hostNetwork: false,
      ips,
      phase: 'Running',
      netnsPath: undefined,
    },
    shouldBeMember: true,
    netns,
    plan: PLAN,
    status: 'enabled',
    since: new Date(0),
  }));
  const none = async (): Promise<void> => {};
  return {
    pods: () => audited,
    ztunnels: () => 1,
    hasCanary: () => true,
    enrolAgain: none,
    removeLeftovers: none,
    hostDrift: async () => [],
    repairHost: none,
  };
}

function nameOf(i: number): string {
  return `pod-${i}`;
}

/** The other process: listens like a ztunnel, and answers what comes. */
function answer(): void {
  setOpenFileLimitToMax();
  process.once('message', (places: readonly { readonly path: string; readonly name: string }[]) => {
    for (const { path, name } of places) {
      using netns = NetNs.open(path);
      const line = `${JSON.stringify(answerOf(name))}\n`;
      const listener = netns.run(() => {
        for (const port of SILENT_PORTS) listenTcp({ address: '::', port, backlog: 16 });
        bindTo(openUdp('ipv6'), { ip: '::', port: 15053 });
        return listenTcp({ address: '::', port: CAPTURE_PORT, backlog: 16 });
      });
      createServer(socket => socket.end(line)).listen({ fd: listener.fd.release() });
    }
    process.send?.('ready');
  });
}

function answerOf(name: string): CanaryAnswer {
  const id = 'spiffe://cluster.local/ns/bench/sa/default';
  const now = Date.now();
  return {
    canary: 1,
    peer: id,
    local: id,
    group: 'X25519MLKEM768',
    cipher: 'TLS_AES_128_GCM_SHA256',
    notBefore: new Date(now).toISOString(),
    notAfter: new Date(now + DAY_MS).toISOString(),
    workload: `bench/${name}`,
  };
}
