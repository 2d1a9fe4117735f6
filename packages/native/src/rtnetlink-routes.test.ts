import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from './errno.ts';
import { createNetNs, type NetNs } from './net-ns.ts';
import { NetlinkProtocol, NetlinkSocket } from './netlink.ts';
import { addAddress } from './rtnetlink-addresses.ts';
import { addBridge, findLink, setLink } from './rtnetlink-links.ts';
import { deleteRoute, listRoutes, readRoute, replaceRoute } from './rtnetlink-routes.ts';
import { addRule, deleteRule, listRules, readRule } from './rtnetlink-rules.ts';
import { formatPrefix, parsePrefix } from './rtnetlink-text.ts';
import { netNsSkip, runIn, toolSkip } from './testing.ts';

const skip = netNsSkip();
const skipTool = skip === false ? toolSkip('ip') : skip;
const MARK = { value: 0x111, mask: 0xfff };

function witness(ns: NetNs, ...args: string[]): string[] {
  const { stdout, status, stderr } = ns.run(() => spawnSync('ip', args, { encoding: 'utf8' }));
  assert.equal(status, 0, stderr);
  return stdout
    .trim()
    .split('\n')
    .map(line => line.trim());
}

/** A namespace with loopback up and a bridge 10.1.0.1/24, fd00:1::1/64, and a socket in it. */
function withNetwork(run: (socket: NetlinkSocket, bridge: number, ns: NetNs) => void): void {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  addBridge('br0', socket);
  const index = findLink('br0', socket)?.index ?? 0;
  setLink(1, { up: true }, socket);
  setLink(index, { up: true }, socket);
  addAddress(index, '10.1.0.1/24', socket);
  addAddress(index, 'fd00:1::1/64', socket);
  run(socket, index, ns);
}

test("the pod's local routes are those that ip would have made", { skip: skipTool }, () => {
  withNetwork((socket, _bridge, ns) => {
    for (const to of ['0.0.0.0/0', '::/0']) replaceRoute({ to, type: 'local', device: 1, table: 100 }, socket);
    assert.deepEqual(witness(ns, 'route', 'show', 'table', '100'), ['local default dev lo proto static scope host']);
    assert.match(witness(ns, '-6', 'route', 'show', 'table', '100')[0] ?? '', /^local default dev lo proto static /);
    const listed = listRoutes(100, socket);
    assert.deepEqual(
      listed.map(({ family, to, type, device, table }) => ({ family, to, type, device, table })),
      [
        { family: 4, to: '0.0.0.0/0', type: 'local', device: 1, table: 100 },
        { family: 6, to: '::/0', type: 'local', device: 1, table: 100 },
      ],
    );
    // Doing it again changes nothing.
    for (const to of ['0.0.0.0/0', '::/0']) replaceRoute({ to, type: 'local', device: 1, table: 100 }, socket);
    assert.deepEqual(listRoutes(100, socket), listed);
    for (const to of ['0.0.0.0/0', '::/0']) deleteRoute({ to, type: 'local', table: 100 }, socket);
    assert.deepEqual(listRoutes(100, socket), []);
  });
});

test('routes with a gateway, a source, a metric and a wide table read back', { skip: skipTool }, () => {
  withNetwork((socket, bridge, ns) => {
    const spec = { to: '10.9.0.0/16', gateway: '10.1.0.2', source: '10.1.0.1', metric: 50, table: 70000 };
    replaceRoute(spec, socket);
    const [route] = listRoutes(70000, socket);
    assert.deepEqual(route, { ...spec, family: 4, type: 'unicast', device: bridge, protocol: 4, isMultipath: false });
    replaceRoute({ ...spec, gateway: '10.1.0.3' }, socket);
    assert.deepEqual(
      listRoutes(70000, socket).map(({ gateway }) => gateway),
      ['10.1.0.3'],
      'replaced, not added',
    );
    assert.match(witness(ns, 'route', 'show', 'table', '70000')[0] ?? '', /^10\.9\.0\.0\/16 via 10\.1\.0\.3 /);
    replaceRoute({ to: 'fd00:9::/64', gateway: 'fd00:1::2', device: bridge }, socket);
    replaceRoute({ to: '10.8.0.0/16', type: 'blackhole' }, socket);
    const main = listRoutes(254, socket);
    assert.equal(main.find(({ to }) => to === 'fd00:9::/64')?.gateway, 'fd00:1::2');
    assert.equal(main.find(({ to }) => to === '10.8.0.0/16')?.type, 'blackhole');
  });
});

test('a route over several paths is listed as such, one by an IPv6 gateway with it', { skip: skipTool }, () => {
  withNetwork((socket, bridge, ns) => {
    runIn(ns, 'ip', 'route add 10.7.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3'.split(' '));
    runIn(ns, 'ip', 'route add 10.6.0.0/16 via inet6 fd00:1::2 dev br0'.split(' '));
    const main = listRoutes(254, socket);
    const multi = main.find(({ to }) => to === '10.7.0.0/16');
    assert.equal(multi?.isMultipath, true);
    assert.equal(multi.device, undefined);
    const via = main.find(({ to }) => to === '10.6.0.0/16');
    assert.equal(via?.gateway, 'fd00:1::2');
    assert.equal(via.device, bridge);
  });
});

test('tables that do not exist are empty, and deleting from them says so', { skip }, () => {
  withNetwork(socket => {
    assert.deepEqual(listRoutes(777, socket), []);
    assert.throws(() => deleteRoute({ to: '10.0.0.0/8', table: 777 }, socket), { errno: Errno.ESRCH });
    assert.throws(() => replaceRoute({ to: '10.9.0.0/16', gateway: '172.16.0.1' }, socket), {
      errno: Errno.ENETUNREACH,
      message: /\(.+\)/,
    });
    for (const table of [0, -1, 2 ** 32, 1.5]) {
      assert.throws(() => listRoutes(table, socket), { code: 'native.argument' });
    }
    assert.throws(() => replaceRoute({ to: '10.9.0.0/16', gateway: 'fd00:1::2' }, socket), { code: 'native.argument' });
    assert.ok(listRoutes(undefined, socket).length > listRoutes(254, socket).length);
  });
});

test('rules are those that ip would have made, in both families', { skip: skipTool }, () => {
  withNetwork((socket, _bridge, ns) => {
    for (const family of [4, 6] as const) addRule({ family, priority: 32764, table: 100, mark: MARK }, socket);
    addRule({ family: 4, priority: 5, table: 70000, to: '10.0.0.0/8', from: '10.1.0.0/24', iif: 'eth9' }, socket);
    assert.ok(witness(ns, 'rule').includes('32764:\tfrom all fwmark 0x111/0xfff lookup 100'));
    assert.ok(witness(ns, 'rule').includes('5:\tfrom 10.1.0.0/24 to 10.0.0.0/8 iif eth9 [detached] lookup 70000'));
    assert.ok(witness(ns, '-6', 'rule').includes('32764:\tfrom all fwmark 0x111/0xfff lookup 100'));
    const rules = listRules(socket);
    const plain = { to: undefined, from: undefined, iif: undefined, oif: undefined, hasMore: false };
    for (const family of [4, 6] as const) {
      const found = rules.find(rule => rule.family === family && rule.priority === 32764);
      assert.deepEqual(found, { family, priority: 32764, table: 100, mark: MARK, ...plain });
    }
    assert.deepEqual(rules[1], {
      ...plain,
      family: 4,
      priority: 5,
      table: 70000,
      mark: undefined,
      to: '10.0.0.0/8',
      from: '10.1.0.0/24',
      iif: 'eth9',
    });
    assert.throws(() => addRule({ family: 4, priority: 32764, table: 100, mark: MARK }, socket), {
      errno: Errno.EEXIST,
    });
    deleteRule({ family: 6, priority: 32764, table: 100, mark: MARK }, socket);
    assert.throws(() => deleteRule({ family: 6, priority: 32764, table: 100, mark: MARK }, socket), {
      errno: Errno.ENOENT,
    });
    assert.throws(() => addRule({ family: 6, priority: 1, table: 1, to: '10.0.0.0/8' }, socket), {
      code: 'native.argument',
    });
    assert.equal(listRules(socket).length, rules.length - 1);
  });
});

test("what narrows another's rule beyond our words is not hidden", { skip: skipTool }, () => {
  withNetwork((socket, _bridge, ns) => {
    const others = [
      'not fwmark 0x111/0xfff lookup 100',
      'fwmark 0x111/0xfff ipproto tcp lookup 100',
      'fwmark 0x111/0xfff uidrange 0-10 lookup 100',
      'fwmark 0x111/0xfff suppress_prefixlength 0 lookup 100',
      'fwmark 0x111/0xfff unreachable',
    ];
    for (const [i, text] of others.entries()) {
      runIn(ns, 'ip', ['rule', 'add', 'pref', `${1000 + i}`, ...text.split(' ')]);
    }
    const seen = listRules(socket).filter(rule => rule.priority >= 1000 && rule.priority < 1100);
    assert.equal(seen.length, others.length);
    for (const rule of seen) assert.equal(rule.hasMore, true, `priority ${rule.priority}`);
    assert.equal(seen.at(-1)?.table, 0);
  });
});

test('prefixes read back as written, and nothing else is one', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(128), (ip, length) => {
      const bits = ip.includes(':') ? 128 : 32;
      if (length > bits) {
        assert.throws(() => parsePrefix(`${ip}/${length}`), { code: 'native.argument' });
        return;
      }
      const parsed = parsePrefix(`${ip}/${length}`);
      const text = formatPrefix(parsed.family, parsed.bytes, parsed.length);
      assert.ok(text !== undefined);
      assert.deepEqual(parsePrefix(text), parsed);
    }),
    { seed: 13, numRuns: 500 },
  );
  assert.equal(formatPrefix(6, parsePrefix('::ffff:10.0.0.0/104').bytes, 104), '::ffff:10.0.0.0/104');
  for (const text of [
    '',
    '/',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '10.0.0/8',
    '::/129',
    'fe80::1%lo/64',
    'a/8',
  ]) {
    assert.throws(() => parsePrefix(text), { code: 'native.argument' }, text);
  }
});

test('hostile entries give a route, a rule or nothing', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .tuple(fc.constantFrom(2, 10), fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 200 }))
      .map(([family, list]) => Uint8Array.from([family, ...list])),
  );
  fc.assert(
    fc.property(bytes, raw => {
      const entry = Buffer.from(raw);
      const route = readRoute(entry);
      assert.ok(route === undefined || route.to.endsWith(`/${entry[1] ?? -1}`));
      const rule = readRule(entry);
      assert.ok(rule === undefined || rule.family === 4 || rule.family === 6);
    }),
    { seed: 14, numRuns: 2000 },
  );
});
