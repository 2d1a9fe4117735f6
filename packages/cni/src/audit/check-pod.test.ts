import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CanaryAnswer } from '@ambit/mesh';
import type { RedirectPlan } from '../redirect/redirect-plan.ts';
import { DEFAULT_PROBE_SNAT } from '../redirect/redirect-rules.ts';
import { REDIRECTION_ANNOTATION } from '../sources/pod-source.ts';
import { checkPod, missingListeners, type PodFacts } from './check-pod.ts';
import type { NetnsLook } from './netns-look.ts';

const DAY = 86_400_000;
const NOW = Date.parse('2026-11-24T12:00:00Z');
const plan: RedirectPlan = {
  dnsCapture: false,
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};
const answer: CanaryAnswer = {
  canary: 1,
  peer: 'spiffe://cluster.local/ns/shop/sa/web',
  local: 'spiffe://cluster.local/ns/shop/sa/web',
  group: 'X25519MLKEM768',
  cipher: 'TLS_AES_128_GCM_SHA256',
  notBefore: new Date(NOW - DAY / 4).toISOString(),
  notAfter: new Date(NOW + DAY / 2).toISOString(),
  workload: 'shop/web-1',
};
const look: NetnsLook = {
  addresses: new Set(['10.0.0.1', 'fe80::1']),
  hasNetwork: true,
  tcp: new Set([15001, 15006, 15008]),
  udp: new Set(),
  sockets: '',
};
/** A member that is as it should be. */
const good: PodFacts = {
  pod: {
    uid: 'u1',
    name: 'web-1',
    namespace: 'shop',
    serviceAccount: 'web',
    labels: {},
    annotations: { [REDIRECTION_ANNOTATION]: 'enabled' },
    hostNetwork: false,
    ips: ['10.0.0.1'],
    phase: 'Running',
    netnsPath: undefined,
  },
  shouldBeMember: true,
  status: 'enabled',
  statusAgeMs: 60_000,
  plan,
  netns: { kind: 'seen', look, isElsewhere: false },
  drift: [],
  showsStatus: true,
  hasZtunnel: true,
  canary: { kind: 'answered', answer, ms: 1 },
  addressAt: undefined,
  nowMs: NOW,
};
const outsider: PodFacts = {
  ...good,
  pod: { ...good.pod, annotations: {} },
  shouldBeMember: false,
  status: 'none',
  plan: undefined,
  canary: undefined,
};

function found(more: Partial<PodFacts>, base = good): readonly string[] {
  return checkPod({ ...base, ...more }).map(({ code, repair, graceMs }) => `${code} ${repair} ${graceMs}`);
}

describe('a member', () => {
  test('that is as it should be has nothing', () => {
    assert.deepEqual(found({}), []);
  });

  test('of which nobody knows whether it is one has nothing, whatever is seen', () => {
    assert.deepEqual(found({ shouldBeMember: undefined, drift: [{ part: 'rules', what: 'x' }], status: 'none' }), []);
  });

  test('with other rules or routes is programmed anew, when a second look says the same', () => {
    const drift = [
      { part: 'rules', what: 'a' },
      { part: 'route', what: 'b' },
      { part: 'routing-rule', what: 'c' },
    ] as const;
    assert.deepEqual(found({ drift }), ['audit.rules_drift enrol 200', 'audit.routes_drift enrol 200']);
  });

  test('names at most three differences', () => {
    const drift = Array.from({ length: 9 }, (_, i) => ({ part: 'rules' as const, what: `rule ${i}` }));
    assert.equal(checkPod({ ...good, drift })[0]?.what, 'rule 0; rule 1; rule 2; and 6 more');
  });

  test('without a listener is served anew, unless there is no ztunnel at all', () => {
    const netns = { kind: 'seen', isElsewhere: false, look: { ...look, tcp: new Set([15001, 15006]) } } as const;
    assert.deepEqual(found({ netns }), ['audit.listener_gone enrol 200']);
    assert.deepEqual(found({ netns, statusAgeMs: 10 }), ['audit.listener_gone enrol 2000']);
    assert.deepEqual(found({ netns, hasZtunnel: false }), []);
    assert.deepEqual(found({ netns, status: 'pending', hasZtunnel: false }), ['audit.label_mismatch none 10000']);
  });

  test('with DNS capture needs a listener for each protocol', () => {
    assert.deepEqual(missingListeners(look, { ...plan, dnsCapture: true }), ['15053', '15053/udp']);
    assert.deepEqual(missingListeners(look, plan), []);
  });

  test('that is not enrolled is, unless it has no network yet', () => {
    const rest = { plan: undefined, drift: undefined, canary: undefined, showsStatus: false } as const;
    const pod = { ...good.pod, annotations: {} };
    assert.deepEqual(found({ ...rest, pod, status: 'none' }), ['audit.not_enrolled enrol 10000']);
    const young = { ...pod, ips: [] };
    assert.deepEqual(found({ ...rest, pod: young, status: 'none', netns: { kind: 'unknown' } }), []);
  });

  test('in a network without its address is in a wrong one, and elsewhere if another pod has it', () => {
    const netns = { kind: 'seen', isElsewhere: false, look: { ...look, addresses: new Set(['10.0.0.2']) } } as const;
    assert.deepEqual(found({ netns }), ['audit.wrong_netns enrol 500']);
    assert.deepEqual(found({ netns, addressAt: 'shop/other' }), ['audit.address_reused enrol 500']);
    assert.deepEqual(found({ addressAt: 'shop/other' }), ['audit.address_reused none 500']);
    assert.deepEqual(found({ netns: { kind: 'seen', look, isElsewhere: true } }), ['audit.wrong_netns enrol 500']);
  });

  test('that is ending has half a minute', () => {
    const netns = {
      kind: 'seen',
      isElsewhere: false,
      look: { ...look, addresses: new Set<string>(), hasNetwork: false },
    } as const;
    assert.deepEqual(found({ netns, addressAt: 'shop/other' }), ['audit.wrong_netns enrol 30000']);
    const gone = { kind: 'unreachable', why: 'no such file' } as const;
    assert.deepEqual(found({ netns: gone, drift: undefined }), ['audit.wrong_netns enrol 30000']);
  });

  test('whose annotation says otherwise is told of, if its source tells annotations at all', () => {
    const pod = { ...good.pod, annotations: {} };
    assert.deepEqual(found({ pod }), ['audit.label_mismatch none 10000']);
    assert.deepEqual(found({ pod, showsStatus: false }), []);
  });
});

describe('a canary', () => {
  test('that somebody else answers shows a wrong namespace', () => {
    for (const wrong of [
      { peer: 'spiffe://cluster.local/ns/shop/sa/db' },
      { local: answer.peer.replace('web', 'db'), peer: answer.peer.replace('web', 'db') },
      { workload: 'shop/web-2' },
    ]) {
      const canary = { kind: 'answered', answer: { ...answer, ...wrong }, ms: 1 } as const;
      assert.deepEqual(found({ canary }), ['audit.wrong_netns enrol 0']);
    }
  });

  test('shows a certificate that has expired, or that is not renewed', () => {
    const until = (ms: number): PodFacts['canary'] => ({
      kind: 'answered',
      answer: { ...answer, notBefore: new Date(NOW - DAY).toISOString(), notAfter: new Date(NOW + ms).toISOString() },
      ms: 1,
    });
    assert.deepEqual(found({ canary: until(0) }), ['audit.certificate_missing none 0']);
    assert.deepEqual(found({ canary: until(DAY / 5) }), ['audit.certificate_expiring none 0']);
    assert.deepEqual(found({ canary: until(DAY / 3) }), []);
  });

  test('that is denied for want of an identity is a missing certificate, which a new pod may still wait for', () => {
    const denied = (reason: string) => ({ kind: 'denied', reason }) as const;
    assert.deepEqual(found({ canary: denied('identity.unavailable') }), ['audit.certificate_missing none 0']);
    assert.deepEqual(found({ canary: denied('tls.expired'), statusAgeMs: 4_000 }), [
      'audit.certificate_missing none 6000',
    ]);
    assert.deepEqual(found({ canary: denied('dial.refused') }), ['audit.canary_failed none 0']);
  });

  test('that nobody takes is plaintext at once', () => {
    const canary = { kind: 'bypassed', why: 'x' } as const;
    const [condition] = checkPod({ ...good, canary, statusAgeMs: 0 });
    assert.equal(condition?.graceMs, 0);
    assert.match(condition?.what ?? '', /^plaintext/);
  });

  test('that fails beside its cause is no finding of its own', () => {
    const canary = { kind: 'bypassed', why: 'x' } as const;
    assert.deepEqual(found({ canary, drift: [{ part: 'rules', what: 'x' }] }), ['audit.rules_drift enrol 200']);
  });

  test('that was not asked says nothing', () => {
    assert.deepEqual(found({ canary: undefined }), []);
  });
});

describe('an outsider', () => {
  test('without rules of ours has nothing, and with some is cleaned', () => {
    assert.deepEqual(found({}, outsider), []);
    const drift = [{ part: 'rules', what: 'table x is left over' }] as const;
    assert.deepEqual(found({ drift }, outsider), ['audit.leftover_rules remove 200']);
  });

  test('that is being taken out of the mesh has its time', () => {
    const drift = [{ part: 'rules', what: 'table x is left over' }] as const;
    assert.deepEqual(found({ drift, status: 'pending', plan }, outsider), ['audit.leftover_rules remove 10000']);
  });
});
