import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createWorkload, type Ip, MeshState, summarizeWorkload } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';
import { withSource } from './record-enrichment.ts';

function record(direction: 'inbound' | 'outbound', ip: string): ConnectionRecord {
  return {
    event: 'close',
    id: '0-1',
    pod: 'p',
    direction,
    protocol: 'HBONE',
    startedAtMs: 0,
    source: { address: { ip: ip as Ip, port: 1 }, identity: 'spiffe://td/ns/shop/sa/web' },
    destination: { address: { ip: '10.0.0.2' as Ip, port: 15008 } },
    fresh: { opened: true, bytesToServer: 78, bytesToClient: 149, retransmits: 0, untalliedRequests: 0 },
    bytesToServer: 1,
    bytesToClient: 2,
    durationMs: 3,
  };
}

const view = new MeshState();
view.applyBatch({
  upsertWorkloads: [
    createWorkload({
      uid: 'w',
      name: 'web-1',
      namespace: 'shop',
      serviceAccount: 'web',
      workloadIps: ['10.0.0.1' as Ip],
    }),
  ],
});

test('an inbound record learns whose address its source is', () => {
  const enriched = withSource(record('inbound', '10.0.0.1'), view, '');
  assert.equal(enriched.source.workload?.name, 'web-1');
  assert.equal(enriched.source.identity, 'spiffe://td/ns/shop/sa/web');
});

test('an unknown source, another network and outbound records stay as they are', () => {
  const stranger = record('inbound', '10.0.0.9');
  assert.equal(withSource(stranger, view, ''), stranger);
  const other = record('inbound', '10.0.0.1');
  assert.equal(withSource(other, view, 'elsewhere'), other);
  const outbound = record('outbound', '10.0.0.1');
  assert.equal(withSource(outbound, view, ''), outbound);
});

test('what the mesh knows goes before what the source says, which stands where the mesh knows nothing', () => {
  const said = summarizeWorkload(createWorkload({ uid: '', name: '', namespace: 'pay', workloadName: 'liar' }));
  const saying = (ip: string): ConnectionRecord => {
    const { source, ...rest } = record('inbound', ip);
    return { ...rest, source: { ...source, workload: said } };
  };
  assert.equal(withSource(saying('10.0.0.1'), view, '').source.workload?.name, 'web-1');
  assert.equal(withSource(saying('10.0.0.9'), view, '').source.workload, said);
});
