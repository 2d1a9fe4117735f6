import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Ip, type IpFamily, parseIp } from '@ambit/mesh';
import type { HostAddresses } from '../dns/host-addresses.ts';
import { HostNames, type HostOutcome, startingAnywhere } from './host-names.ts';

const ip = (text: string): Ip => parseIp(text) ?? assert.fail(text);
const addresses = (...texts: string[]): HostAddresses => ({
  kind: 'addresses',
  addresses: texts.map(ip),
  ttlSeconds: 10,
});
const FAILED: HostAddresses = { kind: 'failed', error: 'x does not exist' };

interface Asked {
  readonly hostname: string;
  readonly family: IpFamily;
  readonly answer: (found: HostAddresses) => void;
}

/** A resolver that answers when the test says so. */
function names(options: { readonly ipv6: boolean } = { ipv6: true }) {
  const asked: Asked[] = [];
  const clock = { nowMs: 0 };
  const hosts = new HostNames(
    {
      resolve: (hostname, family, answer) => void asked.push({ hostname, family, answer }),
      nowMs: () => clock.nowMs,
    },
    options,
  );
  const outcomes: HostOutcome[] = [];
  const want = (hostname: string, family: IpFamily): void =>
    hosts.lookup(hostname, family, outcome => void outcomes.push(outcome));
  const next = (): Asked => asked.shift() ?? assert.fail('nothing was asked');
  return { asked, clock, outcomes, want, next };
}

test('the wanted family is asked for, and everybody who waits gets the one answer', () => {
  const { asked, outcomes, want, next } = names();
  want('db.example', 'ipv6');
  want('db.example', 'ipv6');
  assert.equal(asked.length, 1);
  const { hostname, family, answer } = next();
  assert.deepEqual([hostname, family], ['db.example', 'ipv6']);
  answer(addresses('fd00::1', 'fd00::2'));
  const found = { kind: 'found', addresses: ['fd00::1', 'fd00::2'] };
  assert.deepEqual(outcomes, [found, found]);
  assert.equal(asked.length, 0);
});

describe('without an address of the wanted family', () => {
  test('one of the other family will do', () => {
    for (const first of [addresses(), FAILED]) {
      const { outcomes, want, next } = names();
      want('db.example', 'ipv6');
      next().answer(first);
      const second = next();
      assert.equal(second.family, 'ipv4');
      second.answer(addresses('10.0.0.1'));
      assert.deepEqual(outcomes, [{ kind: 'found', addresses: ['10.0.0.1'] }]);
    }
  });
  test('and without any, that is the reason', () => {
    const { outcomes, want, next } = names();
    want('db.example', 'ipv4');
    next().answer(addresses());
    next().answer(addresses());
    assert.deepEqual(
      outcomes.map(outcome => outcome.kind === 'failed' && outcome.reason),
      ['dns.no_addresses'],
    );
  });
  test('and when a look-up failed, its error is', () => {
    for (const answers of [
      [FAILED, addresses()],
      [addresses(), FAILED],
    ]) {
      const { outcomes, want, next } = names();
      want('x', 'ipv4');
      for (const found of answers) next().answer(found);
      assert.deepEqual(outcomes, [
        { kind: 'failed', reason: 'dns.lookup_failed', error: 'dns lookup failed: x does not exist' },
      ]);
    }
  });
});

test('without IPv6 only IPv4 is asked for, whatever is wanted', () => {
  const { asked, outcomes, want, next } = names({ ipv6: false });
  want('db.example', 'ipv6');
  const { family, answer } = next();
  assert.equal(family, 'ipv4');
  answer(addresses());
  assert.equal(asked.length, 0);
  assert.equal(outcomes[0]?.kind, 'failed');
});

test('an answer is kept for as long as the resolver says, a failure for a second', () => {
  const { asked, clock, outcomes, want, next } = names({ ipv6: false });
  want('db.example', 'ipv4');
  next().answer(addresses('10.0.0.1'));
  clock.nowMs = 9999;
  want('db.example', 'ipv4');
  assert.equal(asked.length, 0);
  assert.equal(outcomes.length, 2);
  clock.nowMs = 10_000;
  want('db.example', 'ipv4');
  next().answer(FAILED);
  clock.nowMs = 10_999;
  want('db.example', 'ipv4');
  assert.equal(asked.length, 0);
  assert.equal(outcomes[3]?.kind, 'failed');
  clock.nowMs = 11_000;
  want('db.example', 'ipv4');
  assert.equal(asked.length, 1);
});

test('what is kept and what is under way is bounded', () => {
  const { asked, outcomes, want } = names();
  for (let count = 0; count < 1024; count++) want(`h${count}`, 'ipv4');
  assert.equal(outcomes.length, 0);
  want('one-more', 'ipv4');
  assert.equal(outcomes[0]?.kind, 'failed');
  for (const { answer } of asked.splice(0)) answer(addresses('10.0.0.1'));
  for (let round = 0; round < 4; round++) {
    for (let count = 0; count < 1024; count++) want(`r${round}-${count}`, 'ipv4');
    for (const { answer } of asked.splice(0)) answer(addresses('10.0.0.1'));
  }
  want('h0', 'ipv4');
  want('r3-1023', 'ipv4');
  assert.deepEqual(
    asked.map(({ hostname }) => hostname),
    ['h0'],
  );
});

test('a walk over addresses may begin with any of them and reaches all', () => {
  const all = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map(ip);
  assert.deepEqual(
    startingAnywhere(all, () => 0.4),
    ['10.0.0.2', '10.0.0.3', '10.0.0.1'],
  );
  assert.deepEqual(
    startingAnywhere(all, () => 0),
    all,
  );
});
