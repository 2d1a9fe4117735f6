import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ListSource, somePod } from '../../test/list-source.ts';
import { PodRegistry } from './pod-registry.ts';

async function bench() {
  const first = new ListSource();
  const second = new ListSource();
  const told: string[] = [];
  const registry = new PodRegistry([first, second]);
  const start = async () =>
    registry.start(
      {
        onPod: (pod, before) => void told.push(`${before === undefined ? 'new' : 'changed'} ${pod.name}`),
        onPodGone: pod => void told.push(`gone ${pod.name}`),
        onNamespace: ({ name }) => void told.push(`namespace ${name}`),
      },
      AbortSignal.timeout(1000),
    );
  return { first, second, told, registry, start };
}

test('a pod that two sources know is the first one’s, and the other’s when that no longer has it', async () => {
  const { first, second, told, registry, start } = await bench();
  first.put({ ...somePod('u', ['10.0.0.1']), name: 'of-first' });
  await start();
  second.put({ ...somePod('u', ['10.0.0.2']), name: 'of-second' });
  assert.deepEqual(
    [...registry.pods()].map(({ name }) => name),
    ['of-first'],
  );
  await registry.setStatus('u', 'enabled');
  assert.equal(first.status('u'), 'enabled');
  assert.equal(second.status('u'), undefined);
  first.drop('u');
  assert.equal(registry.byUid('u')?.name, 'of-second');
  second.drop('u');
  assert.equal(registry.byUid('u'), undefined);
  await registry.setStatus('u', 'pending');
  assert.deepEqual(told, ['changed of-first', 'changed of-second', 'gone of-second']);
});

test('namespaces of one name are each source’s own', async () => {
  const { first, second, registry, start } = await bench();
  first.label('shop', false);
  second.label('shop', true);
  const ours = somePod('of-second', ['10.0.0.2']);
  second.put(ours);
  await start();
  assert.notDeepEqual(registry.namespaceOf(ours)?.labels, first.namespace('shop')?.labels);
  assert.deepEqual(registry.namespaceOf(somePod('nobody', []))?.labels, {}, 'an unknown pod is asked for in order');
});

test('whoever waits for a change hears of the next one, and is let go by his signal', async () => {
  const { first, registry, start } = await bench();
  await start();
  assert.equal(registry.isComplete, true);
  const changed = registry.changed(AbortSignal.timeout(1000));
  first.put(somePod('u', []));
  await changed;
  const stop = new AbortController();
  const waiting = registry.changed(stop.signal);
  stop.abort();
  await waiting;
  await registry.changed(AbortSignal.abort());
});
