import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../fake-clock.ts';
import { Log, LogFilter } from '../log.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';
import { CertificateManager, type CertificateManagerOptions, type CertificateState } from './certificate-manager.ts';

const HOUR_MS = 3_600_000;

/** An authority whose answers the test gives or withholds. */
class ScriptedAuthority implements CertificateAuthority {
  readonly asked: string[] = [];
  readonly #clock: FakeClock;
  readonly #lifeMs: number;
  answer: 'issue' | 'fail' | 'hold' = 'issue';
  readonly #held: (() => void)[] = [];

  constructor(clock: FakeClock, lifeMs: number) {
    this.#clock = clock;
    this.#lifeMs = lifeMs;
  }

  async issue(identity: string): Promise<IssuedCertificate> {
    this.asked.push(identity);
    if (this.answer === 'hold') await new Promise<void>(resolve => this.#held.push(resolve));
    if (this.answer === 'fail') throw new Error('authority down');
    const now = this.#clock.now();
    const material = { identity, certChainPem: String(this.asked.length), privateKeyPem: '', rootsPem: '' };
    return { material, notBeforeMs: now, notAfterMs: now + this.#lifeMs };
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

test('stopping ends every schedule', async () => {
  const { clock, authority, manager } = setUp();
  manager.want('a');
  await clock.advance(0);
  manager.stop();
  await clock.advance(48 * HOUR_MS);
  assert.equal(authority.asked.length, 1);
});
