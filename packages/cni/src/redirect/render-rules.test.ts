import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { renderIptablesTables, restoreInput } from './iptables-redirect.ts';
import { renderNftRedirect, renderNftRemoval } from './nft-redirect.ts';
import type { RedirectPlan } from './redirect-plan.ts';
import { renderRules } from './render-rules.ts';

// AMBIT_UPDATE_GOLDEN=1 writes the files anew; review the difference like code.
const GOLDEN = join(import.meta.dirname, 'golden');
const isUpdating = process.env['AMBIT_UPDATE_GOLDEN'] === '1';

const full: RedirectPlan = {
  dnsCapture: true,
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: { ip: '169.254.7.127', ip6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' },
};

const BOTH = [false, true];
const combinations = BOTH.flatMap(ipv6 =>
  BOTH.flatMap(dnsCapture =>
    BOTH.flatMap(bypassInbound =>
      BOTH.map(machines => ({
        name: [
          ipv6 ? 'dual' : 'v4',
          ...(dnsCapture ? ['dns'] : []),
          ...(bypassInbound ? ['ingress'] : []),
          ...(machines ? ['machines'] : []),
        ].join('-'),
        plan: { ...full, ipv6, dnsCapture, bypassInbound, virtualInterfaces: machines ? ['net1', 'tap+'] : [] },
      })),
    ),
  ),
);

for (const { name, plan } of combinations) {
  for (const backend of ['nftables', 'iptables'] as const) {
    test(`the rules of ${name} are those of the golden file, ${backend}`, () => {
      const path = join(GOLDEN, backend, `${name}.txt`);
      const text = renderRules(plan, backend);
      if (isUpdating) {
        mkdirSync(join(GOLDEN, backend), { recursive: true });
        writeFileSync(path, text);
      }
      assert.equal(text, readFileSync(path, 'utf8'));
    });
  }
}

test('iptables gets the input that Istio documents, with DNS capture', () => {
  assert.equal(
    restoreInput(renderIptablesTables(full, 4)),
    `*mangle
-N ISTIO_PRERT
-N ISTIO_OUTPUT
-A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
-A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
COMMIT
*nat
-N ISTIO_PRERT
-N ISTIO_OUTPUT
-A ISTIO_PRERT -s 169.254.7.127/32 -p tcp -m tcp -j ACCEPT
-A ISTIO_PRERT ! -d 127.0.0.1/32 -p tcp -m tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -d 169.254.7.127/32 -p tcp -j ACCEPT
-A ISTIO_OUTPUT ! -o lo -p udp -m mark ! --mark 0x539/0xfff -m udp --dport 53 -j REDIRECT --to-ports 15053
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m tcp --dport 53 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053
-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
-A OUTPUT -j ISTIO_OUTPUT
-A PREROUTING -j ISTIO_PRERT
COMMIT
*raw
-N ISTIO_PRERT
-N ISTIO_OUTPUT
-A ISTIO_PRERT -p udp -m mark ! --mark 0x539/0xfff -m udp --sport 53 -j CT --zone 1
-A ISTIO_OUTPUT -p udp -m mark --mark 0x539/0xfff -m udp --dport 53 -j CT --zone 1
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
COMMIT
`,
  );
});

test('bypassing inbound capture leaves an empty chain that iptables still jumps to', () => {
  const text = restoreInput(renderIptablesTables({ ...full, bypassInbound: true }, 4));
  const nat = text.slice(text.indexOf('*nat'), text.indexOf('*raw'));
  assert.match(nat, /-N ISTIO_PRERT\n[^]*-A PREROUTING -j ISTIO_PRERT/);
  assert.doesNotMatch(nat, /-A ISTIO_PRERT/);
});

test('no table is filled before the same transaction has emptied it', () => {
  const text = JSON.stringify(renderNftRedirect(full));
  for (const name of ['istio-ambient-nat', 'istio-ambient-mangle', 'istio-ambient-raw']) {
    const table = `{"table":{"family":"inet","name":"${name}"}}`;
    const add = text.indexOf(`{"add":${table}`);
    const remove = text.indexOf(`{"delete":${table}`);
    const again = text.indexOf(`{"add":${table}`, remove);
    assert.ok(0 <= add && add < remove && remove < again && again < text.indexOf(`"table":"${name}"`), name);
  }
});

test('without DNS capture the raw table of an earlier plan goes in the same transaction', () => {
  const commands = renderNftRedirect({ ...full, dnsCapture: false }).nftables;
  const raw = commands.filter(command => JSON.stringify(command).includes('istio-ambient-raw'));
  assert.deepEqual(
    raw.map(command => Object.keys(command as object)[0]),
    ['add', 'delete'],
  );
});

test('removal adds each table before it deletes it, since deleting a missing one fails all', () => {
  const verbs = renderNftRemoval().nftables.map(command => Object.keys(command as object)[0]);
  assert.deepEqual(verbs, ['add', 'delete', 'add', 'delete', 'add', 'delete']);
});

test('rules without IPv6 name no IPv6 address', () => {
  for (const backend of ['nftables', 'iptables'] as const) {
    assert.doesNotMatch(renderRules({ ...full, ipv6: false }, backend), /ip6|::|fd16/);
  }
});
