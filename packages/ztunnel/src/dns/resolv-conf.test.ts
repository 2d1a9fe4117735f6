import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseResolvConf } from './resolv-conf.ts';

const ipsOf = (text: string): string[] => parseResolvConf(text).set.resolvers.map(({ ip }) => ip);

test('name servers, search list and options are read as resolvers read them', () => {
  const conf = parseResolvConf(`# made by hand
nameserver 10.96.0.10   # cluster
nameserver fd00::a
nameserver 192.0.2.1
nameserver 192.0.2.2
domain first.example
search NS.svc.cluster.local. svc.cluster.local
options ndots:5 timeout:2 attempts:9 rotate edns0
`);
  assert.deepEqual(
    conf.set.resolvers.map(({ ip, port }) => `${ip} ${port}`),
    ['10.96.0.10 53', 'fd00::a 53', '192.0.2.1 53'],
  );
  assert.deepEqual(conf.search, ['ns.svc.cluster.local', 'svc.cluster.local']);
  assert.equal(conf.set.timeoutMs, 2000);
  assert.equal(conf.set.attempts, 5);
  assert.ok(conf.set.rotate);
  assert.deepEqual(conf.unusable, []);
});

test('without a name server it is this machine, unless all there are cannot be used', () => {
  assert.deepEqual(ipsOf('search x\n'), ['127.0.0.1']);
  assert.deepEqual(ipsOf('nameserver fe80::1%eth0\n'), []);
  assert.deepEqual(parseResolvConf('nameserver fe80::1%eth0\n').unusable, ['fe80::1%eth0']);
});

test('nonsense changes nothing', () => {
  const { set } = parseResolvConf('nameserver\noptions timeout:x timeout:0 attempts:-1 timeout: timeout\nfoo bar\n');
  assert.deepEqual([set.timeoutMs, set.attempts, set.rotate], [5000, 2, false]);
});

test('any text is read', () => {
  const line = fc
    .tuple(fc.constantFrom('nameserver', 'search', 'options', 'domain', ';'), fc.string())
    .map(parts => parts.join(' '));
  fc.assert(
    fc.property(fc.array(line), lines => {
      const { set } = parseResolvConf(lines.join('\n'));
      assert.ok(set.resolvers.length <= 3 && set.timeoutMs >= 1000 && set.timeoutMs <= 30_000);
      assert.ok(set.attempts >= 1 && set.attempts <= 5);
    }),
    { seed: 5, numRuns: 300 },
  );
});
