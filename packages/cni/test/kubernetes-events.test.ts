// Events on pods against an API server over HTTP: what it keeps in the end, and how little it hears when much is said, when it
// refuses, and when it hangs.
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { createKubeClient } from '@ambit/kube';

import { createLog } from '@ambit/log';
import type { ApiServer, StoredObject } from '../../kube/test/api-server.ts';
import { namespace } from '../../kube/test/objects.ts';
import { startServer, temporaryDirectory } from '../../kube/test/serving.ts';
import { type EventLimits, KubernetesEvents } from '../src/sources/kubernetes-events.ts';
import type { PodEvent } from '../src/sources/pod-events.ts';

const LIMIT = { timeout: 30_000 };
const T0 = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

const drift = (uid = 'u1', more: Partial<PodEvent> = {}): PodEvent => ({
  uid,
  namespace: 'shop',
  name: `pod-${uid}`,
  type: 'Warning',
  reason: 'MeshRulesDrift',
  message: 'a rule is missing; the pod is enrolled anew  [audit.rules_drift]',
  ...more,
});

interface Bench {
  readonly server: ApiServer;
  readonly events: KubernetesEvents;
  readonly clock: { nowMs: number };
  readonly lines: string[];
  /** What the server holds. */
  readonly kept: () => readonly StoredObject[];
  /** Requests that were about Events, as `METHOD status`. */
  readonly asked: () => readonly string[];
}

async function bench(t: TestContext, limits: Partial<EventLimits> = {}): Promise<Bench> {
  const server = await startServer(t);
  server.put(namespace('shop'));
  const client = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t)) });
  const lines: string[] = [];
  const log = createLog({ write: line => void lines.push(line), format: 'plain', level: 'info' }, 'test');
  const clock = { nowMs: T0 };
  const events = new KubernetesEvents(
    { client, isKnown: ({ uid }) => uid !== 'foreign', log, nowMs: () => clock.nowMs },
    { nodeName: 'n1', limits },
  );
  t.after(async () => {
    await events.close();
    client.close();
  });
  return {
    server,
    events,
    clock,
    lines,
    kept: () => server.store.all('/events'),
    asked: () =>
      server.requests.filter(({ path }) => path.includes('/events')).map(({ method, status }) => `${method} ${status}`),
  };
}

/** Without what is random. */
function known({ metadata, ...rest }: StoredObject): object {
  const { name, namespace: where } = metadata;
  return { ...rest, metadata: { name: name.replace(/\.[0-9a-f]{16}$/, '.…'), namespace: where } };
}

describe('events of pods', LIMIT, () => {
  test('are what kubectl describe shows: on the pod, from this node, with times and a count', async t => {
    const { events, kept } = await bench(t);
    events.say(drift());
    await events.idle();
    assert.deepEqual(kept().map(known), [
      {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: 'pod-u1.…', namespace: 'shop' },
        involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name: 'pod-u1', uid: 'u1' },
        type: 'Warning',
        reason: 'MeshRulesDrift',
        message: 'a rule is missing; the pod is enrolled anew  [audit.rules_drift]',
        source: { component: 'ambit-agent', host: 'n1' },
        reportingComponent: 'ambit-agent',
        reportingInstance: 'n1',
        firstTimestamp: '2026-01-02T03:04:05Z',
        lastTimestamp: '2026-01-02T03:04:05Z',
        count: 1,
      },
    ]);
  });

  test('of the same pod and reason are one, which counts and says the latest; others are others', async t => {
    const { events, clock, kept, asked } = await bench(t);
    events.say(drift());
    await events.idle();
    clock.nowMs += 5000;
    events.say(drift('u1', { message: 'two rules are missing' }));
    await events.idle();
    events.say(drift('u2'));
    events.say(drift('u1', { reason: 'MeshRulesDriftRepaired', type: 'Normal' }));
    await events.idle();
    assert.deepEqual(asked(), ['POST 201', 'PATCH 200', 'POST 201', 'POST 201']);
    const [first] = kept().filter(
      ({ reason, metadata }) => reason === 'MeshRulesDrift' && metadata.name.includes('u1'),
    );
    assert.equal(first?.['count'], 2);
    assert.equal(first['message'], 'two rules are missing');
    assert.equal(first['firstTimestamp'], '2026-01-02T03:04:05Z');
    assert.equal(first['lastTimestamp'], '2026-01-02T03:04:10Z');
  });

  test('that the server has forgotten are written anew', async t => {
    const { server, events, kept, asked } = await bench(t);
    events.say(drift());
    await events.idle();
    server.remove('Event', 'shop', kept()[0]?.metadata.name ?? '');
    events.say(drift());
    await events.idle();
    assert.deepEqual(asked(), ['POST 201', 'PATCH 404', 'POST 201']);
    assert.equal(kept()[0]?.['count'], 2);
  });

  test('fall silent under a flood of one pod, which leaves others their say', async t => {
    const { events, clock, kept, asked } = await bench(t, { podBurst: 3, podEveryMs: 60_000, burst: 10 });
    for (let i = 0; i < 1000; i++) {
      events.say(drift('u1', { reason: `Reason${i % 100}` }));
      await events.idle();
    }
    assert.equal(asked().length, 3);
    events.say(drift('u2'));
    await events.idle();
    assert.equal(asked().length, 4);
    assert.deepEqual(events.counts, { written: 4, failed: 0, suppressed: 997 });
    clock.nowMs += 60_000;
    events.say(drift('u1', { reason: 'Reason0' }));
    await events.idle();
    const again = kept().find(({ reason }) => reason === 'Reason0');
    assert.equal(again?.['count'], 11, 'what was not written is counted all the same');
  });

  test('fall silent under a flood of many pods, and waiting ones are bounded', async t => {
    const { events, asked } = await bench(t, { burst: 20, maxQueue: 8, maxKnown: 50 });
    // Nothing is sent before the event loop turns: all of these wait, or do not.
    for (let i = 0; i < 500; i++) events.say(drift(`u${i}`));
    await events.idle();
    const first = asked().length;
    assert.ok(first >= 8 && first <= 9, `${first} written`);
    for (let i = 500; i < 1000; i++) {
      events.say(drift(`u${i}`));
      await events.idle();
    }
    assert.equal(asked().length, 20);
    assert.deepEqual(events.counts, { written: 20, failed: 0, suppressed: 980 });
  });

  test('repeated while they wait are one write', async t => {
    const { events, kept, asked } = await bench(t);
    events.say(drift('other'));
    for (let i = 0; i < 1000; i++) events.say(drift());
    await events.idle();
    assert.deepEqual(asked(), ['POST 201', 'POST 201']);
    assert.equal(kept().find(({ metadata }) => metadata.name.startsWith('pod-u1'))?.['count'], 1000);
    assert.equal(events.counts.suppressed, 0);
  });

  test('that may not be written are told of once, with what to allow, and not tried again at once', async t => {
    const { server, events, clock, lines, asked } = await bench(t);
    server.faults.forbid = ({ plural }) => plural === 'events';
    for (const uid of ['u1', 'u2', 'u3']) events.say(drift(uid));
    await events.idle();
    events.say(drift('u4'));
    await events.idle();
    assert.deepEqual(asked(), ['POST 403']);
    assert.deepEqual(events.counts, { written: 0, failed: 1, suppressed: 3 });
    clock.nowMs += 30_000;
    events.say(drift('u1'));
    await events.idle();
    assert.deepEqual(asked(), ['POST 403', 'POST 403']);
    assert.equal(lines.length, 1);
    assert.match(lines.join(), /Events of pods cannot be written.*kube\.forbidden.*create and patch on events/);
    server.faults.forbid = undefined;
    clock.nowMs += 30_000;
    events.say(drift('u1'));
    await events.idle();
    assert.deepEqual(events.counts, { written: 1, failed: 2, suppressed: 3 });
  });

  test('of a namespace that is gone keep none of the others', async t => {
    const { events, kept } = await bench(t);
    events.say(drift('u1', { namespace: 'gone' }));
    events.say(drift('u2'));
    await events.idle();
    assert.deepEqual(events.counts, { written: 1, failed: 1, suppressed: 0 });
    assert.equal(kept().length, 1);
  });

  test('wait for a server that hangs no longer than they may, and for none at the end', async t => {
    const { server, events, clock } = await bench(t, { timeoutMs: 50 });
    server.faults.isStuck = true;
    events.say(drift());
    events.say(drift('u2'));
    await events.idle();
    assert.deepEqual(events.counts, { written: 0, failed: 1, suppressed: 1 });
    clock.nowMs += 60_000;
    events.say(drift());
    await events.close();
    events.say(drift());
    assert.equal(events.counts.written, 0);
  });

  test('have names that the API takes, and messages that fit, whatever the pod is called', async t => {
    const { events, kept } = await bench(t);
    events.say(drift('u1', { name: `${'a'.repeat(235)}-${'b'.repeat(17)}`, message: 'é'.repeat(600) }));
    await events.idle();
    const [event] = kept();
    assert.match(event?.metadata.name ?? '', /^a{235}\.[0-9a-f]{16}$/);
    assert.equal(event?.['message'], 'é'.repeat(512));
  });

  test('of pods that the server does not have are not said', async t => {
    const { events, asked } = await bench(t);
    events.say(drift('foreign'));
    await events.idle();
    assert.deepEqual(asked(), []);
  });
});
