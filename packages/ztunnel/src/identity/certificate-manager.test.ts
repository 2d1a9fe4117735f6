import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../fake-clock.ts';
import { Log, LogFilter } from '../log.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';
import { CertificateManager, type CertificateManagerOptions, type CertificateState } from './certificate-manager.ts';

const HOUR_MS = 3_600_000;
const SECRET = 'the private key';
const ROOT_A = '-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n';
const ROOT_B = '-----BEGIN CERTIFICATE-----\nQg==\n-----END CERTIFICATE-----\n';

/** An authority whose answers the test gives or withholds. */
class ScriptedAuthority implements CertificateAuthority {
  readonly asked: string[] = [];
  readonly #clock: FakeClock;
  readonly #lifeMs: number;
  answer: 'issue' | 'fail' | 'hold' = 'issue';
  /** How far before now certificates begin. */
  backdateMs = 0;
  roots = ROOT_A;
  readonly signals: (AbortSignal | undefined)[] = [];
  readonly #held: (() => void)[] = [];

  constructor(clock: FakeClock, lifeMs: number) {
    this.#clock = clock;
    this.#lifeMs = lifeMs;
  }

  async issue(identity: string, signal?: AbortSignal): Promise<IssuedCertificate> {
    this.asked.push(identity);
    this.signals.push(signal);
    if (this.answer === 'hold') await new Promise<void>(resolve => this.#held.push(resolve));
    if (this.answer === 'fail') throw new Error('authority down');
    const now = this.#clock.now();
    const material = { identity, certChainPem: String(this.asked.length), privateKeyPem: SECRET, rootsPem: this.roots };
    return { material, notBeforeMs: now - this.backdateMs, notAfterMs: now + this.#lifeMs };
  }

  release(): void {
    for (const resolve of this.#held.splice(0)) resolve();
  }

  close(): void {}
}

function setUp(options: Partial<CertificateManagerOptions> & { lifeMs?: number; random?: number } = {}): {
  clock: FakeClock;
  authority: ScriptedAuthority;
  manager: CertificateManager;
  changes: (readonly [string, CertificateState['kind']])[];
} {
  const { lifeMs = 24 * HOUR_MS, random = 0.5, ...rest } = options;
  const clock = new FakeClock();
  const authority = new ScriptedAuthority(clock, lifeMs);
  const changes: (readonly [string, CertificateState['kind']])[] = [];
  const filter = LogFilter.parse('off');
  assert.ok(filter !== undefined);
  const log = new Log({ write: () => undefined, now: () => 0 }, { format: 'plain', filter }).scope('x');
  const onChange = (identity: string, state: CertificateState): void => void changes.push([identity, state.kind]);
  const manager = new CertificateManager({ authority, clock, random: () => random, onChange, log }, rest);
  return { clock, authority, manager, changes };
}

test('fetches on first need, once for many who ask', async () => {
  const { clock, authority, manager, changes } = setUp();
  manager.want('a');
  assert.deepEqual(manager.state('a'), { kind: 'initializing' });
  manager.want('a');
  await clock.advance(0);
  assert.deepEqual(authority.asked, ['a']);
  assert.deepEqual(changes, [['a', 'available']]);
});

test('renews at half life', async () => {
  const { clock, authority, manager, changes } = setUp();
  manager.want('a');
  await clock.advance(12 * HOUR_MS - 1);
  assert.equal(authority.asked.length, 1);
  await clock.advance(1);
  assert.equal(authority.asked.length, 2);
  assert.deepEqual(
    changes.map(([, kind]) => kind),
    ['available', 'available'],
  );
});

test('jitter spreads renewals around half life', async () => {
  for (const [random, hours] of [
    [0, 10.8],
    [1, 13.2],
  ] as const) {
    const { clock, manager } = setUp({ random });
    manager.want('a');
    await clock.advance(0);
    assert.ok(Math.abs((clock.nextInMs ?? 0) - hours * HOUR_MS) < 1, String(clock.nextInMs));
  }
});

test('a life shorter than what the authority backdates is renewed at half of what is left', async () => {
  const { clock, authority, manager } = setUp({ lifeMs: 10_000 });
  authority.backdateMs = 120_000;
  manager.want('a');
  await clock.advance(4999);
  assert.equal(authority.asked.length, 1);
  await clock.advance(1);
  assert.equal(authority.asked.length, 2);
});

test('a failed renewal keeps the present certificate and retries with back-off until it expires', async () => {
  const { clock, authority, manager, changes } = setUp({ lifeMs: 20_000 });
  manager.want('a');
  await clock.advance(0);
  authority.answer = 'fail';
  await clock.advance(10_000);
  assert.equal(manager.state('a')?.kind, 'available');
  assert.equal(clock.nextInMs, 1000);
  await clock.advance(1000);
  assert.equal(clock.nextInMs, 2000);
  await clock.advance(2000);
  assert.equal(clock.nextInMs, 4000);
  await clock.advance(4000);
  // 17 s: eight more would be too late, so the next attempt is at expiry.
  assert.equal(clock.nextInMs, 3000);
  await clock.advance(3000);
  assert.deepEqual(changes.at(-1), ['a', 'unavailable']);
  authority.answer = 'issue';
  await clock.advance(15_000 * 1.2);
  assert.equal(manager.state('a')?.kind, 'available');
});

test('without a certificate the pause never exceeds its own cap', async () => {
  const { clock, authority, manager, changes } = setUp();
  authority.answer = 'fail';
  manager.want('a');
  await clock.advance(10 * 60_000);
  assert.equal(manager.state('a')?.kind, 'unavailable');
  assert.ok((clock.nextInMs ?? Infinity) <= 15_000);
  authority.answer = 'issue';
  await clock.advance(15_000);
  assert.deepEqual(changes.at(-1), ['a', 'available']);
});

test('forgetting while a request is under way drops the answer, and wanting again asks again', async () => {
  const { clock, authority, manager, changes } = setUp();
  authority.answer = 'hold';
  manager.want('a');
  manager.forget('a');
  manager.want('a');
  authority.answer = 'issue';
  authority.release();
  await clock.advance(0);
  assert.equal(authority.asked.length, 2);
  assert.deepEqual(changes, [['a', 'available']]);
  manager.forget('a');
  assert.equal(manager.state('a'), undefined);
  await clock.advance(48 * HOUR_MS);
  assert.equal(authority.asked.length, 2);
});

test('at most as many requests at once as allowed, and new pods go before renewals', async () => {
  const { clock, authority, manager } = setUp({ concurrency: 2 });
  manager.want('old');
  await clock.advance(0);
  authority.answer = 'hold';
  await clock.advance(12 * HOUR_MS - 1);
  manager.want('a');
  manager.want('b');
  manager.want('c');
  await clock.advance(1);
  assert.deepEqual(authority.asked, ['old', 'a', 'b']);
  authority.release();
  await clock.advance(0);
  authority.release();
  await clock.advance(0);
  assert.deepEqual(authority.asked, ['old', 'a', 'b', 'c', 'old']);
});

test('a certificate that is already old does not make a tight loop', async () => {
  const { clock, authority, manager } = setUp({ lifeMs: 1 });
  manager.want('a');
  await clock.advance(10_000);
  assert.ok(authority.asked.length <= 12, String(authority.asked.length));
});

test('a request that hangs is given up at the deadline, and its place is free for others', async () => {
  const { clock, authority, manager, changes } = setUp({ concurrency: 1, deadlineMs: 5000 });
  authority.answer = 'hold';
  manager.want('hung');
  await clock.advance(0);
  manager.want('b');
  authority.answer = 'issue';
  await clock.advance(5000);
  assert.deepEqual(changes.slice(0, 2), [
    ['hung', 'unavailable'],
    ['b', 'available'],
  ]);
  assert.equal(authority.signals[0]?.aborted, true);
  assert.equal(manager.stats.timedOut, 1);
  const state = manager.state('hung');
  assert.ok(state?.kind === 'unavailable' && state.code === 'ca.timeout');
  // The late answer changes nothing.
  authority.release();
  await clock.advance(0);
  assert.equal(manager.state('hung')?.kind, 'unavailable');
});

test('a pod goes before a prefetch, and a prefetch before a renewal', async () => {
  const { clock, authority, manager } = setUp({ concurrency: 1 });
  manager.want('old');
  await clock.advance(0);
  await clock.advance(12 * HOUR_MS - 1);
  authority.answer = 'hold';
  manager.prefetch('busy');
  manager.prefetch('warm');
  manager.want('pod');
  await clock.advance(1);
  authority.answer = 'issue';
  authority.release();
  await clock.advance(0);
  assert.deepEqual(authority.asked, ['old', 'busy', 'pod', 'warm', 'old']);
});

test('a pod that comes raises a prefetch that waits', async () => {
  const { clock, authority, manager } = setUp({ concurrency: 1 });
  authority.answer = 'hold';
  manager.prefetch('busy');
  manager.prefetch('a');
  manager.prefetch('b');
  manager.want('b');
  authority.answer = 'issue';
  authority.release();
  await clock.advance(0);
  assert.deepEqual(authority.asked, ['busy', 'b', 'a']);
});

test('eight of two hundred prefetches run at once, and all come', async () => {
  const { clock, authority, manager } = setUp();
  authority.answer = 'hold';
  for (let i = 0; i < 200; i++) manager.prefetch(`id-${i}`);
  await clock.advance(0);
  assert.equal(manager.stats.running, 8);
  authority.answer = 'issue';
  authority.release();
  await clock.advance(0);
  await clock.advance(0);
  assert.equal(manager.stats.available, 200);
});

test('a prefetched certificate is announced when a pod wants it, and each time a pod wants it again', async () => {
  const { clock, authority, manager, changes } = setUp();
  manager.prefetch('a');
  await clock.advance(0);
  assert.deepEqual(changes, []);
  manager.want('a');
  manager.forget('a');
  manager.want('a');
  assert.deepEqual(changes, [
    ['a', 'available'],
    ['a', 'available'],
  ]);
  manager.forget('a');
  assert.equal(manager.state('a')?.kind, 'available');
  manager.forgetPrefetched('a');
  assert.equal(manager.state('a'), undefined);
  assert.equal(authority.asked.length, 1);
});

test('forgetting a request that is under way frees its place at once', async () => {
  const { clock, authority, manager } = setUp({ concurrency: 1 });
  authority.answer = 'hold';
  manager.want('a');
  manager.want('b');
  manager.forget('a');
  await clock.advance(0);
  assert.deepEqual(authority.asked, ['a', 'b']);
  assert.deepEqual([authority.signals[0]?.aborted, authority.signals[1]?.aborted], [true, false]);
  assert.equal(manager.stats.dropped, 1);
});

test('who needs an unavailable identity has it asked for again at once, but not more often than each second', async () => {
  const { clock, authority, manager, changes } = setUp({ firstRetryMs: 60_000, maxRetryWithoutMs: 60_000 });
  authority.answer = 'fail';
  manager.want('a');
  await clock.advance(0);
  manager.need('a');
  manager.need('a');
  await clock.advance(999);
  assert.equal(authority.asked.length, 1);
  await clock.advance(1);
  assert.equal(authority.asked.length, 2);
  await clock.advance(5000);
  assert.equal(authority.asked.length, 2);
  authority.answer = 'issue';
  manager.need('a');
  await clock.advance(0);
  assert.deepEqual(changes.at(-1), ['a', 'available']);
  manager.need('a');
  await clock.advance(2000);
  assert.equal(authority.asked.length, 3);
});

test('a pod that comes while a prefetched identity is unavailable does not wait for the back-off', async () => {
  const { clock, authority, manager, changes } = setUp({ firstRetryMs: 60_000, maxRetryWithoutMs: 60_000 });
  authority.answer = 'fail';
  manager.prefetch('a');
  await clock.advance(5000);
  assert.equal(authority.asked.length, 1);
  authority.answer = 'issue';
  manager.want('a');
  await clock.advance(0);
  assert.deepEqual(changes, [
    ['a', 'unavailable'],
    ['a', 'available'],
  ]);
});

test('a certificate that expires while its renewal hangs is not handed out any more', async () => {
  const { clock, authority, manager, changes } = setUp({ lifeMs: 20_000, deadlineMs: 60_000 });
  manager.want('a');
  await clock.advance(0);
  authority.answer = 'hold';
  await clock.advance(19_999);
  assert.equal(manager.state('a')?.kind, 'available');
  await clock.advance(1);
  assert.deepEqual(changes.at(-1), ['a', 'unavailable']);
  const state = manager.state('a');
  assert.ok(state?.kind === 'unavailable' && state.code === 'identity.expired' && /under way/.test(state.error));
  assert.equal(manager.stats.expired, 1);
  authority.answer = 'issue';
  authority.release();
  await clock.advance(0);
  assert.deepEqual(changes.at(-1), ['a', 'available']);
});

test('an authority that is down at the start is asked until it answers', async () => {
  const { clock, authority, manager, changes } = setUp();
  authority.answer = 'fail';
  for (const identity of ['a', 'b', 'c']) manager.want(identity);
  await clock.advance(300_000);
  assert.equal(manager.stats.available, 0);
  authority.answer = 'issue';
  await clock.advance(18_000);
  assert.equal(manager.stats.available, 3);
  assert.deepEqual(
    changes.slice(-3).map(([, kind]) => kind),
    ['available', 'available', 'available'],
  );
});

test('a renewal that brings other roots has everybody renew within minutes, and only once', async () => {
  const { clock, authority, manager } = setUp();
  for (let i = 0; i < 20; i++) manager.want(`id-${i}`);
  await clock.advance(6 * HOUR_MS);
  assert.equal(authority.asked.length, 20);
  authority.roots = ROOT_B;
  manager.want('new');
  await clock.advance(200_000);
  assert.equal(authority.asked.length, 41);
  assert.equal(manager.stats.rootRotations, 1);
  for (const { rootsPem } of manager.identityStates()) assert.equal(rootsPem, ROOT_B);
  await clock.advance(HOUR_MS);
  assert.equal(authority.asked.length, 41);
});

test('two replicas of a CA that disagree about the roots do not make everybody renew for ever', async () => {
  const { clock, authority, manager } = setUp();
  for (let i = 0; i < 10; i++) manager.want(`id-${i}`);
  await clock.advance(HOUR_MS);
  const asked = authority.asked.length;
  for (let i = 0; i < 20; i++) {
    authority.roots = i % 2 === 0 ? ROOT_B : ROOT_A;
    manager.want(`new-${i}`);
    await clock.advance(60_000);
  }
  assert.equal(manager.stats.rootRotations, 1);
  assert.ok(authority.asked.length <= asked + 20 + 12, String(authority.asked.length));
});

test('what may be shown has dates, the next renewal and the last error, and no key', async () => {
  const { clock, authority, manager } = setUp({ lifeMs: 20_000 });
  manager.want('b');
  manager.prefetch('a');
  await clock.advance(0);
  authority.answer = 'fail';
  await clock.advance(10_000);
  const [a, b] = manager.identityStates();
  assert.equal(a?.identity, 'a');
  assert.equal(b?.state, 'available');
  assert.equal(b?.notAfterMs, clock.now() + 10_000);
  assert.equal(b?.nextRenewalMs, clock.now() + 1000);
  assert.deepEqual(b?.lastError, { message: 'authority down', code: undefined, atMs: clock.now() });
  assert.equal(b?.priority, 'Background');
  assert.ok(!JSON.stringify(manager.identityStates()).includes(SECRET));
  await clock.advance(10_000);
  assert.deepEqual(
    manager.identityStates().map(({ state, priority, certChainPem }) => [state, priority, certChainPem]),
    [
      ['unavailable', 'Warmup', ''],
      ['unavailable', 'RealTime', ''],
    ],
  );
});

test('stopping ends every schedule', async () => {
  const { clock, authority, manager } = setUp();
  manager.want('a');
  await clock.advance(0);
  manager.stop();
  await clock.advance(48 * HOUR_MS);
  assert.equal(authority.asked.length, 1);
});
