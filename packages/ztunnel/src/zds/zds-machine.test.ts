import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WorkloadRequest } from '@ambit/wire';
import fc from 'fast-check';
import { type NetnsHandle, type ZdsEffect, ZdsMachine } from './zds-machine.ts';

interface Netns extends NetnsHandle {
  readonly id: number;
}

const INFO = { name: 'pod', namespace: 'ns', serviceAccount: 'sa' };
const add = (uid: string): WorkloadRequest => ({ kind: 'add', uid, info: INFO });
const keep = (uid: string): WorkloadRequest => ({ kind: 'keep', uid });
const del = (uid: string): WorkloadRequest => ({ kind: 'del', uid });
const SNAPSHOT: WorkloadRequest = { kind: 'snapshotSent' };

/** A driver that carries effects out at once: starts fail for the namespaces named in `broken`. */
class Bench {
  readonly machine = new ZdsMachine<Netns>();
  readonly acks: (string | undefined)[] = [];
  readonly broken = new Set<string>();
  readonly serving = new Map<string, number>();
  readonly open = new Set<number>();
  readonly unknownKeeps: string[] = [];
  readonly described: string[] = [];
  starts = 0;
  disconnects: string[] = [];
  #nextId = 1;

  netns(key: string): Netns {
    const netns = { key, id: this.#nextId++ };
    this.open.add(netns.id);
    return netns;
  }

  request(request: WorkloadRequest, key?: string): void {
    this.apply(this.machine.onRequest(request, key === undefined ? undefined : this.netns(key)));
  }

  apply(effects: readonly ZdsEffect<Netns>[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'start': {
          const isBroken = this.broken.has(effect.netns.key);
          if (!isBroken) {
            this.starts++;
            assert.ok(!this.serving.has(effect.uid), 'two proxies for one pod');
            this.serving.set(effect.uid, effect.netns.id);
          }
          this.apply(this.machine.onStarted(effect.uid, isBroken ? 'port taken' : undefined));
          break;
        }
        case 'stop': {
          const id = this.serving.get(effect.uid);
          assert.ok(id !== undefined, 'stop of a pod that does not run');
          this.serving.delete(effect.uid);
          assert.ok(this.open.delete(id));
          break;
        }
        case 'describe':
          assert.ok(this.serving.has(effect.uid), 'a pod that does not run is described');
          this.described.push(`${effect.uid}=${effect.info.l7}`);
          break;
        case 'ack':
          this.acks.push(effect.error);
          break;
        case 'release':
          assert.ok(this.open.delete(effect.netns.id), 'released twice');
          break;
        case 'disconnect':
          this.disconnects.push(effect.reason);
          this.machine.onDisconnected();
          break;
        case 'unknownKeep':
          this.unknownKeeps.push(effect.uid);
          break;
      }
    }
  }

  synced(): this {
    this.machine.onConnected();
    this.request(SNAPSHOT);
    return this;
  }
}

test('Z2: a second identical add starts nothing', () => {
  const bench = new Bench().synced();
  bench.request(add('a'), 'n1');
  bench.request(add('a'), 'n1');
  assert.equal(bench.starts, 1);
  assert.deepEqual(bench.acks, [undefined, undefined, undefined]);
  assert.equal(bench.open.size, 1);
});

test('Z2a: a pod that is only described otherwise goes on, under its new description', () => {
  const described = (l7: string): WorkloadRequest => ({ kind: 'add', uid: 'a', info: { ...INFO, l7 } });
  const bench = new Bench().synced();
  bench.request(described('on'), 'n1');
  bench.request(described('off'), 'n1');
  bench.request(described('off'), 'n1');
  bench.request(add('a'), 'n1');
  assert.equal(bench.starts, 1);
  assert.deepEqual(bench.described, ['a=off', 'a=undefined']);
  assert.equal(bench.open.size, 1);
  bench.request(described('on'), 'n2');
  assert.equal(bench.starts, 2, 'another namespace is another matter');
  assert.equal(bench.machine.pods().get('a')?.info.l7, 'on');
});

test('Z3: a failed add is pending, not ready, and a retry serves it when the port frees', () => {
  const bench = new Bench().synced();
  bench.broken.add('n1');
  bench.request(add('a'), 'n1');
  assert.equal(bench.acks.at(-1), 'failure to start proxy : port taken');
  assert.equal(bench.machine.isReady, false);
  bench.apply(bench.machine.onRetryTimer());
  assert.equal(bench.machine.pendingCount, 1);
  bench.broken.clear();
  const acks = bench.acks.length;
  bench.apply(bench.machine.onRetryTimer());
  assert.equal(bench.starts, 1);
  assert.equal(bench.machine.isReady, true);
  assert.equal(bench.acks.length, acks, 'a retry sends no ack');
});

test('Z4: pending in one namespace, then added in another: the pending entry is dropped', () => {
  const bench = new Bench().synced();
  bench.broken.add('n1');
  bench.request(add('a'), 'n1');
  bench.request(add('a'), 'n2');
  assert.equal(bench.machine.pendingCount, 0);
  assert.equal(bench.machine.runningCount, 1);
  assert.equal(bench.open.size, 1);
});

test('Z5: a delete clears a pending pod', () => {
  const bench = new Bench().synced();
  bench.broken.add('n1');
  bench.request(add('a'), 'n1');
  bench.request(del('a'));
  assert.equal(bench.machine.isReady, true);
  assert.equal(bench.open.size, 0);
});

test('Z6: a delete before the snapshot takes the pod out of it', () => {
  const bench = new Bench();
  bench.machine.onConnected();
  bench.request(add('a'), 'n1');
  bench.request(del('a'));
  assert.equal(bench.serving.size, 1);
  bench.request(SNAPSHOT);
  assert.equal(bench.serving.size, 0);
});

test('Z7: add, delete, add works, and deleting the unknown is fine', () => {
  const bench = new Bench().synced();
  bench.request(add('a'), 'n1');
  bench.request(del('a'));
  bench.request(add('a'), 'n1');
  bench.request(del('b'));
  assert.equal(bench.serving.size, 1);
  assert.ok(bench.acks.every(error => error === undefined));
});

test('Z8: keep on a new snapshot keeps the pod, what is not named goes', () => {
  const bench = new Bench().synced();
  bench.request(add('a'), 'n1');
  bench.request(add('b'), 'n2');
  bench.machine.onDisconnected();
  assert.equal(bench.machine.isReady, false);
  assert.equal(bench.serving.size, 2);
  bench.machine.onConnected();
  bench.request(keep('a'));
  assert.equal(bench.machine.isReady, false);
  bench.request(SNAPSHOT);
  assert.deepEqual([...bench.serving.keys()], ['a']);
  assert.equal(bench.machine.isReady, true);
});

test('Z9: an add with another namespace replaces the proxy', () => {
  const bench = new Bench().synced();
  bench.request(add('a'), 'n1');
  bench.request(add('a'), 'n2');
  assert.equal(bench.starts, 2);
  assert.equal(bench.serving.size, 1);
  assert.equal(bench.open.size, 1);
});

test('an add with another identity in the same namespace restarts the pod under it', () => {
  const bench = new Bench().synced();
  bench.request(add('a'), 'n1');
  bench.request({ kind: 'add', uid: 'a', info: { ...INFO, serviceAccount: 'other' } }, 'n1');
  assert.equal(bench.starts, 2);
  assert.equal(bench.machine.pods().get('a')?.info.serviceAccount, 'other');
});

test('Z1, Z10: wrong descriptors and missing info drop the connection with an error ack', () => {
  const bench = new Bench().synced();
  bench.request(add('a'));
  assert.equal(bench.acks.at(-1), 'failure to read message : No control message');
  assert.deepEqual(bench.disconnects, ['bad_packet']);
  bench.synced().apply(bench.machine.onAddWithoutInfo());
  assert.match(bench.acks.at(-1) ?? '', /^failure to process message : /);
  assert.deepEqual(bench.disconnects, ['bad_packet', 'add_without_info']);
});

test('keep after the snapshot and a second snapshot are protocol errors that leave running pods alone', () => {
  const bench = new Bench().synced();
  bench.request(add('a'), 'n1');
  bench.request(keep('a'));
  bench.machine.onConnected();
  bench.request(keep('a'));
  bench.request(SNAPSHOT);
  bench.request(SNAPSHOT);
  assert.deepEqual(bench.disconnects, ['keep_after_snapshot', 'second_snapshot']);
  assert.equal(bench.serving.size, 1);
});

test('a pending pod survives a reconnect when the agent keeps it', () => {
  const bench = new Bench().synced();
  bench.broken.add('n1');
  bench.request(add('a'), 'n1');
  bench.machine.onDisconnected();
  bench.machine.onConnected();
  bench.request(keep('a'));
  bench.request(SNAPSHOT);
  bench.broken.clear();
  bench.apply(bench.machine.onRetryTimer());
  assert.equal(bench.serving.size, 1);
});

test('keep for a pod that was never added is accepted and reported', () => {
  const bench = new Bench();
  bench.machine.onConnected();
  bench.request(keep('ghost'));
  assert.deepEqual(bench.unknownKeeps, ['ghost']);
  assert.deepEqual(bench.acks, [undefined]);
});

test('nothing may be fed while a start is in flight', () => {
  const machine = new ZdsMachine<Netns>();
  machine.onConnected();
  machine.onRequest(add('a'), { key: 'n', id: 1 });
  assert.throws(() => machine.onRequest(del('a'), undefined), /while a pod is being started/);
  assert.deepEqual(machine.onRetryTimer(), []);
  assert.throws(() => machine.onStarted('b', undefined), /no start of b/);
});

/** What must be true after any sequence of requests: a naive model written from the protocol's table. */
interface Model {
  running: Map<string, string>;
  pending: Map<string, string>;
  snapshot: Set<string> | undefined;
  isConnected: boolean;
}

const UIDS = ['a', 'b', 'c'];
const KEYS = ['n1', 'n2', 'n3'];

class RequestCommand implements fc.Command<Model, Bench> {
  readonly request: WorkloadRequest;
  readonly key: string;

  constructor(request: WorkloadRequest, key: string) {
    this.request = request;
    this.key = key;
  }

  check(model: Readonly<Model>): boolean {
    return model.isConnected;
  }

  run(model: Model, bench: Bench): void {
    const { request, key } = this;
    const acks = bench.acks.length;
    bench.request(request, request.kind === 'add' ? key : undefined);
    assert.equal(bench.acks.length, acks + 1, 'exactly one ack a request');
    applyToModel(model, bench.broken, request, key);
    compare(model, bench);
  }

  toString(): string {
    return `${this.request.kind} ${'uid' in this.request ? this.request.uid : ''} ${this.key}`;
  }
}

function applyToModel(model: Model, broken: ReadonlySet<string>, request: WorkloadRequest, key: string): void {
  switch (request.kind) {
    case 'add':
      model.snapshot?.add(request.uid);
      if (model.running.get(request.uid) === key) return;
      model.running.delete(request.uid);
      model.pending.delete(request.uid);
      (broken.has(key) ? model.pending : model.running).set(request.uid, key);
      return;
    case 'keep':
      if (model.snapshot === undefined) model.isConnected = false;
      else model.snapshot.add(request.uid);
      return;
    case 'del':
      model.snapshot?.delete(request.uid);
      model.pending.delete(request.uid);
      if (model.snapshot === undefined) model.running.delete(request.uid);
      return;
    case 'snapshotSent': {
      const names = model.snapshot;
      if (names === undefined) {
        model.isConnected = false;
        return;
      }
      for (const pods of [model.running, model.pending]) {
        for (const uid of pods.keys()) if (!names.has(uid)) pods.delete(uid);
      }
      model.snapshot = undefined;
    }
  }
}

function compare(model: Model, bench: Bench): void {
  assert.deepEqual([...bench.serving.keys()].toSorted(), [...model.running.keys()].toSorted());
  assert.equal(bench.machine.runningCount, model.running.size);
  assert.equal(bench.machine.pendingCount, model.pending.size);
  assert.equal(bench.open.size, model.running.size + model.pending.size, 'one descriptor a pod, none leaked');
  const isSynced = model.isConnected && model.snapshot === undefined;
  assert.equal(bench.machine.isReady, isSynced && model.pending.size === 0);
}

function simple(
  name: string,
  check: (model: Model) => boolean,
  run: (model: Model, bench: Bench) => void,
): fc.Command<Model, Bench> {
  const command: fc.Command<Model, Bench> = {
    check: model => check(model),
    run: (model, bench) => {
      run(model, bench);
      compare(model, bench);
    },
    toString: () => name,
  };
  return command;
}

const commands = [
  fc
    .record({
      kind: fc.constantFrom('add', 'keep', 'del', 'snapshotSent'),
      uid: fc.constantFrom(...UIDS),
      key: fc.constantFrom(...KEYS),
    })
    .map(({ kind, uid, key }) => {
      const request = kind === 'add' ? add(uid) : kind === 'keep' ? keep(uid) : kind === 'del' ? del(uid) : SNAPSHOT;
      return new RequestCommand(request, key);
    }),
  fc.constant(
    simple(
      'connect',
      () => true,
      (model, bench) => {
        bench.machine.onDisconnected();
        bench.machine.onConnected();
        model.isConnected = true;
        model.snapshot = new Set();
      },
    ),
  ),
  fc.constantFrom(...KEYS).map(key =>
    simple(
      `toggle ${key}`,
      () => true,
      (_model, bench) => {
        if (!bench.broken.delete(key)) bench.broken.add(key);
      },
    ),
  ),
  fc.constant(
    simple(
      'retry',
      () => true,
      (model, bench) => {
        bench.apply(bench.machine.onRetryTimer());
        for (const [uid, key] of model.pending) {
          if (bench.broken.has(key)) continue;
          model.pending.delete(uid);
          model.running.set(uid, key);
        }
      },
    ),
  ),
];

test('any sequence of requests, reconnects, failures and retries agrees with the protocol table and leaks nothing', () => {
  fc.assert(
    fc.property(fc.commands(commands, { maxCommands: 60 }), list => {
      fc.modelRun(
        () => ({
          model: { running: new Map(), pending: new Map(), snapshot: undefined, isConnected: false },
          real: new Bench(),
        }),
        list,
      );
    }),
    { seed: 5, numRuns: 500 },
  );
});
