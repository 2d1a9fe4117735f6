import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { NetlinkProtocol, NetlinkSocket } from './netlink.ts';
import { createNetNs } from './net-ns.ts';
import { Nftables, nftGeneration, runNft } from './nftables.ts';
import { openFdCount } from './resources.ts';
import { netNsSkip, toolSkip, runIn } from './testing.ts';

const skip = Nftables.available() ? netNsSkip() : 'libnftables1 is not installed';
const skipTool = skip === false ? toolSkip('nft') : skip;

const inTable = { family: 'inet', table: 'ours' };
const table = { table: { family: 'inet', name: 'ours' } };
const chain = { chain: { ...inTable, name: 'out', type: 'filter', hook: 'output', prio: 0, policy: 'accept' } };
const list = { nftables: [{ list: { ruleset: null } }] };

function rules(count: number): object[] {
  return Array.from({ length: count }, (_, i) => ({
    add: {
      rule: {
        ...inTable,
        chain: 'out',
        expr: [
          { match: { op: '==', left: { payload: { protocol: 'tcp', field: 'dport' } }, right: 1000 + i } },
          { counter: null },
          { accept: null },
        ],
      },
    },
  }));
}

const program = { nftables: [{ add: table }, { flush: table }, { add: chain }, ...rules(23)] };

/** Objects of a listing, without the line about the library. */
function listed(result: unknown): object[] {
  assert.ok(typeof result === 'object' && result !== null && 'nftables' in result && Array.isArray(result.nftables));
  const items: readonly object[] = result.nftables;
  return items.filter(item => !('metainfo' in item));
}

test('a program changes the namespace it runs in, and only that one', { skip }, () => {
  using one = createNetNs();
  using other = createNetNs();
  assert.equal(
    one.run(() => runNft(program)),
    undefined,
  );
  assert.equal(listed(one.run(() => runNft(list))).length, 25);
  assert.deepEqual(listed(other.run(() => runNft(list))), []);
});

test('nft itself reads back what a program wrote', { skip: skipTool }, () => {
  using ns = createNetNs();
  ns.run(() => runNft(program));
  runIn(ns, 'nft', ['-j', 'list chain inet ours out']);
  runIn(ns, 'nft', ['delete table inet ours']);
  assert.deepEqual(listed(ns.run(() => runNft(list))), []);
});

test('a refused command undoes its whole program and is told in the words of nft', { skip }, () => {
  using ns = createNetNs();
  const bad = { nftables: [{ add: table }, { delete: { table: { family: 'inet', name: 'nobody' } } }] };
  assert.throws(() => ns.run(() => runNft(bad)), { code: 'native.nftables', message: /No such file or directory/ });
  assert.throws(() => ns.run(() => runNft({ commands: [] })), { code: 'native.nftables', message: /nftables/ });
  assert.deepEqual(listed(ns.run(() => runNft(list))), []);
});

test('a program above the bound is refused before nft sees it', () => {
  assert.throws(() => runNft({ nftables: [{ comment: 'x'.repeat(8 * 1024 * 1024) }] }), { code: 'native.bounds' });
});

test('stateless listings leave out the counters values', { skip }, () => {
  using ns = createNetNs();
  ns.run(() => runNft(program));
  const full = JSON.stringify(ns.run(() => runNft(list)));
  const stateless = JSON.stringify(ns.run(() => runNft(list, { stateless: true })));
  assert.match(full, /"packets"/);
  assert.doesNotMatch(stateless, /"packets"/);
});

test('the generation changes with every commit, and is read from outside', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.NETFILTER));
  const before = nftGeneration(socket);
  assert.equal(nftGeneration(socket), before);
  ns.run(() => runNft(program));
  const after = nftGeneration(socket);
  assert.notEqual(after, before);
  ns.run(() => runNft(list));
  assert.equal(nftGeneration(socket), after, 'listing changes nothing');
  assert.equal(
    ns.run(() => nftGeneration()),
    after,
  );
  ns.run(() => runNft({ nftables: [{ delete: table }] }));
  assert.notEqual(nftGeneration(socket), after);
});

test('without descriptors a program is refused, and the library does not end the process', { skip }, () => {
  const module = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
  const code = `
    const { closeSync, openSync } = await import('node:fs');
    const { createNetNs } = await import(${module('./net-ns.ts')});
    const { runNft } = await import(${module('./nftables.ts')});
    const expr = [{ match: { op: '==', left: { meta: { key: 'iif' } }, right: 'lo' } }, { accept: null }];
    const chain = { chain: { family: 'inet', table: 'ours', name: 'out' } };
    const rule = { rule: { family: 'inet', table: 'ours', chain: 'out', expr } };
    const nftables = [{ add: ${JSON.stringify(table)} }, { add: chain }, { add: rule }, { list: { ruleset: null } }];
    const ns = createNetNs();
    const run = () => ns.run(() => runNft({ nftables }));
    run();
    const fds = [];
    const fill = () => { try { for (;;) fds.push(openSync('/dev/null')); } catch {} };
    for (let free = 0; free < 4; free++) {
      fill();
      for (let i = 0; i < free; i++) closeSync(fds.pop());
      try { run(); console.log('ran'); } catch (error) { console.log(error.code); }
    }`;
  const command = 'ulimit -n 80; exec "$0" --input-type=module -e "$1"';
  const child = spawnSync('sh', ['-c', command, process.execPath, code], { encoding: 'utf8', timeout: 60_000 });
  assert.equal(child.status, 0, child.stderr);
  assert.deepEqual(child.stdout.trim().split('\n'), ['EMFILE', 'EMFILE', 'ran', 'ran']);
});

test('contexts leave no descriptor and no memory behind, refusals included', { skip }, () => {
  using ns = createNetNs();
  const run = (times: number) => {
    for (let i = 0; i < times; i++) {
      ns.run(() => runNft(program));
      ns.run(() => runNft(list));
      assert.throws(() => ns.run(() => runNft({})), { code: 'native.nftables' });
    }
  };
  run(30);
  const fds = openFdCount();
  const before = process.memoryUsage().rss;
  run(100);
  assert.equal(openFdCount(), fds);
  // The heap of V8 breathes by some megabytes; a lost context would cost some 40 KB, 12 MB in all.
  assert.ok(process.memoryUsage().rss - before < 8e6, 'memory grew with the calls');
});
