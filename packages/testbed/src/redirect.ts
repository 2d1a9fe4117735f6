// The rules inside an enrolled pod's namespace that lead its TCP traffic through ztunnel, as values; pure. Tables, chains,
// order and marks are those of Istio's CNI agent with its nftables back end, so either can replace the other's rules.
// Not covered: DNS capture, which needs a DNS proxy, and virtual interfaces of nested machines.

/** Mark of every packet that ztunnel itself sends, and of connections it opened; both under this mask. */
export const MARK_MASK = 0xfff;
export const ZTUNNEL_MARK = 0x539;
export const CONNECTION_MARK = 0x111;

export const OUTBOUND_PORT = 15001;
export const INBOUND_PLAINTEXT_PORT = 15006;
export const INBOUND_HBONE_PORT = 15008;

/** Source of the kubelet's probes after the node's address translation: these packets are never captured. */
const PROBE_ADDRESS = { ip: '169.254.7.127', ip6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' } as const;
/** Only this one address is exempt, not 127.0.0.0/8. */
const LOOPBACK = { ip: '127.0.0.1', ip6: '::1' } as const;
const FAMILIES = ['ip', 'ip6'] as const;

const NAT_TABLE = 'istio-ambient-nat';
const MANGLE_TABLE = 'istio-ambient-mangle';
/** Upstream's third table, used with DNS capture only; removed with the others so that nothing of anybody's stays. */
const RAW_TABLE = 'istio-ambient-raw';

/** Packets with the connection mark are delivered locally, whatever address they carry. */
export const ROUTE_TABLE = 100;
export const RULE_PREFERENCE = 32764;

/** A JSON value that `nft -j` reads; see libnftables-json(5). */
export type NftJson = string | number | null | readonly NftJson[] | { readonly [key: string]: NftJson };
export type NftProgram = { readonly nftables: readonly NftJson[] };

/** One transaction that leaves exactly our rules, whether or not they were there. */
export function renderRedirect(): NftProgram {
  return {
    nftables: [
      ...freshTable(NAT_TABLE),
      ...hook(NAT_TABLE, 'prerouting', 'nat', -100),
      ...hook(NAT_TABLE, 'output', 'nat', -100),
      ...natPrerouting().map(expr => rule(NAT_TABLE, 'istio-prerouting', expr)),
      ...natOutput().map(expr => rule(NAT_TABLE, 'istio-output', expr)),
      ...freshTable(MANGLE_TABLE),
      ...hook(MANGLE_TABLE, 'prerouting', 'filter', -150),
      // Of type route: a mark that changes here must be looked up again.
      ...hook(MANGLE_TABLE, 'output', 'route', -150),
      rule(MANGLE_TABLE, 'istio-prerouting', [markIs('==', ZTUNNEL_MARK), setConnectionMark()]),
      rule(MANGLE_TABLE, 'istio-output', [connectionMarkIs(CONNECTION_MARK), restoreMark()]),
    ],
  };
}

/** One transaction that leaves none of the tables. Each is added first, since deleting a missing one fails all. */
export function renderRedirectRemoval(): NftProgram {
  const tables = [NAT_TABLE, MANGLE_TABLE, RAW_TABLE];
  return { nftables: tables.flatMap(name => [{ add: table(name) }, { delete: table(name) }]) };
}

/** Arguments of `ip` that add one routing rule and its route; the same rule twice is refused by the kernel (EEXIST). */
export function routeCommands(family: 4 | 6): { readonly rule: readonly string[]; readonly route: readonly string[] } {
  const everything = family === 4 ? '0.0.0.0/0' : '::/0';
  return {
    rule: ['fwmark', `${CONNECTION_MARK}/${MARK_MASK}`, 'pref', `${RULE_PREFERENCE}`, 'lookup', `${ROUTE_TABLE}`],
    route: ['local', everything, 'dev', 'lo', 'table', `${ROUTE_TABLE}`],
  };
}

function natPrerouting(): NftJson[][] {
  return [
    ...FAMILIES.map(family => [isTcp(), address(family, 'saddr', '==', PROBE_ADDRESS[family]), { accept: null }]),
    // 15008 is ztunnel's own door: whoever knocks there speaks to it directly.
    ...FAMILIES.map(family => [
      address(family, 'daddr', '!=', LOOPBACK[family]),
      match('!=', { payload: { protocol: 'tcp', field: 'dport' } }, INBOUND_HBONE_PORT),
      markIs('!=', ZTUNNEL_MARK),
      redirect(INBOUND_PLAINTEXT_PORT),
    ]),
  ];
}

function natOutput(): NftJson[][] {
  return [
    ...FAMILIES.map(family => [isTcp(), address(family, 'daddr', '==', PROBE_ADDRESS[family]), { accept: null }]),
    // Replies of the application on a connection that ztunnel opened towards it.
    [isTcp(), markIs('==', CONNECTION_MARK), { accept: null }],
    // A pod that calls its own address talks to itself.
    ...FAMILIES.map(family => [leavesByLoopback(), address(family, 'daddr', '!=', LOOPBACK[family]), { accept: null }]),
    ...FAMILIES.map(family => [
      isTcp(),
      address(family, 'daddr', '!=', LOOPBACK[family]),
      markIs('!=', ZTUNNEL_MARK),
      redirect(OUTBOUND_PORT),
    ]),
  ];
}

function table(name: string): NftJson {
  return { table: { family: 'inet', name } };
}

function freshTable(name: string): NftJson[] {
  return [{ add: table(name) }, { flush: table(name) }];
}

/** A base chain that jumps to the chain which holds the rules. */
function hook(tableName: string, name: 'prerouting' | 'output', type: string, priority: number): NftJson[] {
  const inTable = { family: 'inet', table: tableName };
  const target = `istio-${name}`;
  return [
    { add: { chain: { ...inTable, name: target } } },
    { add: { chain: { ...inTable, name, type, hook: name, prio: priority, policy: 'accept' } } },
    rule(tableName, name, [{ jump: { target } }]),
  ];
}

/** Every rule counts, and counts before its verdict. */
function rule(tableName: string, chain: string, expr: readonly NftJson[]): NftJson {
  const counted = [...expr.slice(0, -1), { counter: null }, ...expr.slice(-1)];
  return { add: { rule: { family: 'inet', table: tableName, chain, expr: counted } } };
}

function match(op: '==' | '!=', left: NftJson, right: NftJson): NftJson {
  return { match: { op, left, right } };
}

function isTcp(): NftJson {
  return match('==', { meta: { key: 'l4proto' } }, 'tcp');
}

function leavesByLoopback(): NftJson {
  return match('==', { meta: { key: 'oifname' } }, 'lo');
}

function address(family: 'ip' | 'ip6', field: 'saddr' | 'daddr', op: '==' | '!=', value: string): NftJson {
  return match(op, { payload: { protocol: family, field } }, value);
}

function markIs(op: '==' | '!=', mark: number): NftJson {
  return match(op, { '&': [{ meta: { key: 'mark' } }, MARK_MASK] }, mark);
}

function connectionMarkIs(mark: number): NftJson {
  return match('==', { '&': [{ ct: { key: 'mark' } }, MARK_MASK] }, mark);
}

/** Sets our twelve bits and keeps those of others. */
function setConnectionMark(): NftJson {
  const others = { '&': [{ ct: { key: 'mark' } }, 0xffffffff - MARK_MASK] };
  return { mangle: { key: { ct: { key: 'mark' } }, value: { '|': [others, CONNECTION_MARK] } } };
}

function restoreMark(): NftJson {
  return { mangle: { key: { meta: { key: 'mark' } }, value: { ct: { key: 'mark' } } } };
}

function redirect(port: number): NftJson {
  return { redirect: { port } };
}
