import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createService, createWorkload, type Ip, type MeshBatch, MeshState, parseIp } from '@ambit/mesh';
import type { DemandResult } from '@ambit/wire/grpc';
import { Lookup } from './lookup.ts';

function ip(text: string): Ip {
  const parsed = parseIp(text);
  assert.ok(parsed);
  return parsed;
}

/** A control plane that answers a name with a batch; names without one get no answer. */
function world(answers: Readonly<Record<string, MeshBatch>>) {
  const state = new MeshState();
  const asked: string[] = [];
  const demand = async (name: string): Promise<DemandResult> => {
    asked.push(name);
    const batch = answers[name];
    if (batch === undefined) return 'late';
    state.applyBatch(batch);
    return 'answered';
  };
  return { state, asked, lookup: new Lookup({ view: state, demand }, { network: 'net' }) };
}

const vip = { network: 'net', ip: ip('10.96.0.1') };
const waypoint = {
  destination: { kind: 'hostname', namespace: 'shop', hostname: 'wp.shop' },
  hboneMtlsPort: 15008,
} as const;

test('a known destination is not asked for', () => {
  const { state, lookup, asked } = world({});
  state.applyBatch({ upsertServices: [createService({ name: 's', namespace: 'shop', hostname: 's', vips: [vip] })] });
  assert.equal(lookup.prepare(vip.ip), undefined);
  assert.deepEqual(asked, []);
});

test('an unknown destination is asked for, then the waypoint it leads to', async () => {
  const { lookup, asked, state } = world({
    'net/10.96.0.1': {
      upsertServices: [createService({ name: 's', namespace: 'shop', hostname: 's', vips: [vip], waypoint })],
    },
    'shop/wp.shop': { upsertServices: [createService({ name: 'wp', namespace: 'shop', hostname: 'wp.shop' })] },
  });
  assert.equal(await lookup.prepare(vip.ip), true);
  assert.deepEqual(asked, ['net/10.96.0.1', 'shop/wp.shop']);
  assert.equal(state.counts.services, 2);
  assert.equal(lookup.prepare(vip.ip), undefined);
});

test('the answer that there is nothing is an answer', async () => {
  const { lookup } = world({ 'net/192.0.2.1': {} });
  assert.equal(await lookup.prepare(ip('192.0.2.1')), true);
});

test('without an answer nothing is sure, be it of the destination or of its waypoint', async () => {
  const silent = world({});
  assert.equal(await silent.lookup.prepare(vip.ip), false);
  const half = world({
    'net/10.0.0.1': {
      upsertWorkloads: [
        createWorkload({
          uid: 'u',
          name: 'u',
          namespace: 'shop',
          network: 'net',
          workloadIps: [ip('10.0.0.1')],
          waypoint,
        }),
      ],
    },
  });
  assert.equal(await half.lookup.prepare(ip('10.0.0.1')), false);
});
