import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { renderRedirect, renderRedirectRemoval, routeCommands } from './redirect.ts';

const golden = readFileSync(join(import.meta.dirname, '../test/golden/redirect.json'), 'utf8');

/** One line a command, so that a change shows as the rule it changes. */
function lines(commands: readonly unknown[]): string {
  return `${commands.map(command => JSON.stringify(command)).join('\n')}\n`;
}

test('the rules are those of the golden file', () => {
  assert.equal(lines(renderRedirect().nftables), golden);
});

test('loading replaces the tables in the transaction that fills them', () => {
  const text = lines(renderRedirect().nftables);
  for (const name of ['istio-ambient-nat', 'istio-ambient-mangle']) {
    const add = text.indexOf(`{"add":{"table":{"family":"inet","name":"${name}"}}}`);
    const flush = text.indexOf(`{"flush":{"table":{"family":"inet","name":"${name}"}}}`);
    const first = text.indexOf(`"table":"${name}"`);
    assert.ok(add >= 0 && add < flush && flush < first, name);
  }
});

test('removal deletes all three tables that an agent may have made', () => {
  const deleted = renderRedirectRemoval().nftables.filter(command => JSON.stringify(command).startsWith('{"delete"'));
  assert.equal(deleted.length, 3);
});

test('marked packets are routed to loopback in both families', () => {
  assert.equal(routeCommands(4).rule.join(' '), 'fwmark 273/4095 pref 32764 lookup 100');
  assert.equal(routeCommands(4).route.join(' '), 'local 0.0.0.0/0 dev lo table 100');
  assert.equal(routeCommands(6).route.join(' '), 'local ::/0 dev lo table 100');
});
