import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EdgeEvent, type MergedEdge, noCounts } from '@ambit/insight';
import { createWorkload, explainConnection, type Ip, MeshState } from '@ambit/mesh';
import { whyAnswer } from './why-answer.ts';

const NOW = 60_000_000;

function mesh(): MeshState {
  const state = new MeshState();
  const pod = (name: string, ip: string) =>
    createWorkload({
      uid: name,
      name,
      workloadName: name,
      namespace: 'shop',
      serviceAccount: name,
      trustDomain: 'cluster.local',
      protocol: 'HBONE',
      workloadIps: [ip as Ip],
    });
  state.applyBatch({ upsertWorkloads: [pod('web', '10.0.0.1'), pod('cart', '10.0.0.2')] });
  return state;
}

/** What the last connection from web to cart came to. */
function edge(last: Partial<EdgeEvent>): MergedEdge {
  const event: EdgeEvent = {
    atMs: NOW - 1000,
    event: 'refused',
    source: '10.0.0.1 4000',
    destination: '10.0.0.2:80',
    reason: undefined,
    error: undefined,
    policy: undefined,
    durationMs: 3,
    ...last,
  };
  // Of the many facts of an edge, those that an answer looks at.
  return {
    source: { name: 'shop/web' },
    destination: { name: 'shop/cart' },
    service: undefined,
    port: 80,
    targetPort: 80,
    minutes: [{ minute: Math.floor(NOW / 60_000), counts: { ...noCounts(), denied: 1 } }],
    lastSeenMs: event.atMs,
    last: event,
    failures: [event],
    tls: undefined,
    reporters: ['source'],
  } as unknown as MergedEdge;
}

function answer(last: Partial<EdgeEvent>) {
  const view = mesh();
  const plan = explainConnection(view, { source: 'shop/web', destination: 'shop/cart:80', network: '' });
  assert.equal(plan.verdict, 'allowed');
  return whyAnswer(plan, view, '', [edge(last)], NOW);
}

test('where the plan allows it, what really happened says why not', () => {
  const { verdict, reason, disagreement } = answer({ reason: 'dial.refused', error: 'connection refused' });
  assert.deepEqual([verdict, reason], ['fails', 'dial.refused']);
  assert.match(disagreement ?? '', /the configuration allows it/);
});

test("a policy's no is a denial, whether this end tells of it or the other end answered 401", () => {
  for (const last of [
    { reason: 'policy.no_allow_match', policy: 'shop/callers' },
    { reason: 'hbone.status', error: 'status 401' },
  ] as const) {
    assert.equal(answer(last).verdict, 'denied', last.reason);
  }
  assert.equal(answer({ reason: 'hbone.status', error: 'status 503' }).verdict, 'fails');
});

test('what was long ago, and what an application or a shutdown ended, is no failure', () => {
  assert.equal(answer({ reason: 'dial.refused', atMs: NOW - 3_600_000 }).verdict, 'allowed');
  assert.equal(answer({ reason: 'drain.deadline' }).verdict, 'allowed');
});
