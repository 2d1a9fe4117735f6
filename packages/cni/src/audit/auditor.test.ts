// The loop against a node of the test's making: real namespaces and rules, and a subject that says what the test wants.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { addAddress, addVeth, findLink, listenTcp, type NetNs, setLink } from '@ambit/native';
import { netNsSkip, podLikeNetNs } from '../redirect/netns-testing.ts';
import { NftablesBackend } from '../redirect/nft-backend.ts';
import type { RedirectBackend, RedirectPlan } from '../redirect/redirect-plan.ts';
import { DEFAULT_PROBE_SNAT } from '../redirect/redirect-rules.ts';
import { auditMetrics } from './audit-extension.ts';
import type { AuditedPod, AuditSubject } from './audit-types.ts';
import { Auditor } from './auditor.ts';
import { FIRST_LOOK_MS } from './pod-watch.ts';
import { auditReport } from './report.ts';

const plan: RedirectPlan = {
  dnsCapture: false,
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};
const backend = new NftablesBackend();
const soon = () => AbortSignal.timeout(20_000);

describe('an auditor', { skip: netNsSkip() }, () => {
  let netns: NetNs;
  let pods: AuditedPod[];
  let calls: string[];
  let hostDrift: string[];
  const open: Auditor[] = [];

  beforeEach(async () => {
    netns = podLikeNetNs();
    netns.run(() => {
      addVeth('eth0', 'wire0');
      const index = findLink('eth0')?.index ?? 0;
      setLink(index, { up: true });
      addAddress(index, '10.0.0.1/32');
    });
    for (const port of [15001, 15006, 15008]) netns.run(() => listenTcp({ address: '::', port, backlog: 1 }));
    await backend.apply(netns, plan);
    pods = [member()];
    calls = [];
    hostDrift = [];
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map(async auditor => auditor.close()));
    netns.close();
  });

  function member(more: Partial<AuditedPod> = {}): AuditedPod {
    return {
      pod: {
        uid: 'u1',
        name: 'web-1',
        namespace: 'shop',
        serviceAccount: 'web',
        labels: {},
        annotations: {},
        hostNetwork: false,
        ips: ['10.0.0.1'],
        phase: 'Running',
        netnsPath: undefined,
      },
      shouldBeMember: true,
      netns,
      plan,
      status: 'enabled',
      since: new Date(0),
      ...more,
    };
  }

  function bench(repair = true): {
    auditor: Auditor;
    subject: AuditSubject;
    run: (repair?: boolean) => Promise<string[]>;
  } {
    const subject: AuditSubject = {
      pods: () => pods,
      ztunnels: () => 1,
      hasCanary: () => false,
      enrolAgain: async uid => {
        calls.push(`enrol ${uid}`);
        await backend.apply(netns, plan);
      },
      removeLeftovers: async uid => {
        calls.push(`remove ${uid}`);
        await backend.remove(netns);
      },
      hostDrift: async () => hostDrift.map(what => ({ part: 'rules', what })),
      repairHost: async () => {
        calls.push('host');
        hostDrift = [];
      },
    };
    const auditor = new Auditor({ subject, backend, log: SILENT_LOG, hostRoot: '' }, { repair });
    open.push(auditor);
    const run = async (mends = true): Promise<string[]> => {
      await auditor.run({ repair: mends, signal: soon() });
      return auditor.findings().map(({ code, repaired }) => `${code}${repaired ? ' repaired' : ''}`);
    };
    return { auditor, subject, run };
  }

  test('finds nothing where nothing is wrong, and shows no canary that a ztunnel does not have', async () => {
    const { auditor, subject, run } = bench();
    assert.deepEqual(await run(), []);
    const report = auditReport(auditor, subject, 'n1');
    assert.equal(report.clean, true);
    const [pod] = report.pods;
    assert.deepEqual([pod?.rules, pod?.listeners, pod?.certificate, pod?.canary], ['ok', 'ok', null, null]);
  });

  test('one run finds and mends, and leaves what it mended in sight', async () => {
    await backend.remove(netns);
    const { run, auditor } = bench();
    assert.deepEqual(await run(), ['audit.rules_drift repaired', 'audit.routes_drift repaired']);
    assert.deepEqual(calls, ['enrol u1'], 'both by one repair');
    assert.deepEqual((await backend.verify(netns, plan, undefined)).drift, []);
    const metrics = [...auditMetrics(auditor)];
    assert.deepEqual(metrics.find(({ name }) => name === 'ambit_audit_findings')?.samples, []);
    assert.equal(metrics.find(({ name }) => name === 'ambit_audit_repairs_total')?.samples[0]?.value, 1);
  });

  test('a run that is to mend nothing, or an auditor that never does, only tells', async () => {
    await backend.remove(netns);
    assert.deepEqual(await bench().run(false), ['audit.rules_drift', 'audit.routes_drift']);
    const never = bench(false);
    assert.deepEqual(await never.run(), ['audit.rules_drift', 'audit.routes_drift']);
    assert.match(never.auditor.findings()[0]?.remedy ?? '', /AMBIT_AUDIT_REPAIR=false/);
    assert.deepEqual(calls, []);
    const [findings] = [...auditMetrics(never.auditor)];
    assert.deepEqual(findings?.samples[0], { labels: { code: 'audit.rules_drift' }, value: 1 });
  });

  test('cleans an outsider, and one of which nobody knows is left alone', async () => {
    pods = [member({ shouldBeMember: undefined, status: 'none', plan: undefined })];
    assert.deepEqual(await bench().run(), []);
    assert.deepEqual(calls, []);
    pods = [member({ shouldBeMember: false, status: 'none', plan: undefined })];
    assert.deepEqual(await bench().run(), ['audit.leftover_rules repaired']);
    assert.deepEqual(calls, ['remove u1']);
  });

  test('an outsider that only its source knows is looked at by the path that it names', async () => {
    const { pod } = member();
    const netnsPath = `/proc/self/fd/${netns.fd.number}`;
    const outside = { shouldBeMember: false, status: 'none', plan: undefined, netns: undefined } as const;
    pods = [member({ ...outside, pod: { ...pod, netnsPath } })];
    assert.deepEqual(await bench().run(), ['audit.leftover_rules repaired']);
    pods = [member({ ...outside, pod: { ...pod, netnsPath: '/nowhere' } })];
    assert.deepEqual(await bench().run(), []);
  });

  test('a namespace other than the one its source names is a wrong one', async () => {
    const { pod } = member();
    pods = [member({ pod: { ...pod, netnsPath: '/proc/self/ns/net' } })];
    assert.deepEqual(await bench(false).run(), ['audit.wrong_netns']);
  });

  test("puts the host's rules for probes back", async () => {
    hostDrift = ['table gone'];
    assert.deepEqual(await bench().run(), ['audit.host_rules_drift repaired']);
    assert.deepEqual(calls, ['host']);
  });

  test('a pod that was just enrolled is left alone for a while, unless somebody asks', async () => {
    const looks = Promise.withResolvers<number>();
    const looking: RedirectBackend = {
      name: backend.name,
      apply: async (...args) => backend.apply(...args),
      remove: async (...args) => backend.remove(...args),
      verify: async (...args) => {
        looks.resolve(Date.now());
        return backend.verify(...args);
      },
    };
    const since = new Date();
    pods = [member({ since })];
    const { subject, run } = bench();
    await backend.remove(netns);
    assert.deepEqual(await run(), ['audit.rules_drift repaired', 'audit.routes_drift repaired'], 'asked');
    const auditor = new Auditor({ subject, backend: looking, log: SILENT_LOG, hostRoot: '' }, { repair: true });
    open.push(auditor);
    auditor.start();
    assert.ok((await looks.promise) - since.getTime() >= FIRST_LOOK_MS);
  });

  test('finds by itself what changes after it began', async () => {
    const { auditor } = bench();
    const found = Promise.withResolvers<void>();
    calls.push = (...items: string[]) => {
      found.resolve();
      return items.length;
    };
    auditor.start();
    await backend.remove(netns);
    await found.promise;
  });
});
