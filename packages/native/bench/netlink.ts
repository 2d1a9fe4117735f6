// What the agent's and the DNS proxy's calls cost: `node packages/native/bench/netlink.ts`, as root, on namespaces of its
// own. Prints, asserts nothing. Processor time, the least of many rounds, because a busy machine only ever adds. The last
// lines are the leak check: descriptors and memory over 2000 programs.
import { spawnSync } from 'node:child_process';
import {
  addAddress,
  addBridge,
  addVeth,
  bindTo,
  createNetNs,
  deleteLink,
  findLink,
  listAddresses,
  listLinks,
  listListeners,
  listRoutes,
  listRules,
  localAddress,
  NetlinkProtocol,
  NetlinkSocket,
  nftGeneration,
  openFdCount,
  openUdp,
  recvFrom,
  runNft,
  sendTo,
  Slab,
  UdpAddresses,
  UdpBatch,
} from '../src/index.ts';

const ROUNDS = 40;

function cpuMicroseconds(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Least processor time of one `run`, in microseconds. */
function measure(calls: number, run: () => void): number {
  for (let i = 0; i < calls; i++) run();
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = cpuMicroseconds();
    for (let i = 0; i < calls; i++) run();
    least = Math.min(least, (cpuMicroseconds() - start) / calls);
  }
  return least;
}

function print(name: string, microseconds: number): void {
  console.log(`${name.padEnd(52)} ${microseconds.toFixed(1).padStart(9)} us`);
}

const inTable = { family: 'inet', table: 'bench' };
const table = { table: { family: 'inet', name: 'bench' } };
const chain = { chain: { ...inTable, name: 'out', type: 'filter', hook: 'output', prio: 0, policy: 'accept' } };
const rules = Array.from({ length: 25 }, (_, i) => {
  const left = { payload: { protocol: 'tcp', field: 'dport' } };
  const expr = [{ match: { op: '==', left, right: 1000 + i } }, { counter: null }, { accept: null }];
  return { add: { rule: { ...inTable, chain: 'out', expr } } };
});
const program = { nftables: [{ add: table }, { flush: table }, { add: chain }, ...rules] };
const list = { nftables: [{ list: { table: table.table } }] };

const ns = createNetNs();
const route = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
const netfilter = ns.run(() => NetlinkSocket.open(NetlinkProtocol.NETFILTER));
const diag = ns.run(() => NetlinkSocket.open(NetlinkProtocol.SOCK_DIAG));

print(
  'runNft, an empty program',
  measure(20, () => ns.run(() => runNft({ nftables: [] }))),
);
print(
  'runNft, 25 rules',
  measure(10, () => ns.run(() => runNft(program))),
);
print(
  'runNft, list of them',
  measure(10, () => ns.run(() => runNft(list))),
);
const start = process.hrtime.bigint();
for (let i = 0; i < 20; i++) {
  ns.run(() => spawnSync('nft', ['-j', '-f', '-'], { input: JSON.stringify(program) }));
}
print('the same 25 rules by spawning nft (wall clock)', Number(process.hrtime.bigint() - start) / 20_000);
print(
  'nftGeneration, own socket',
  measure(500, () => void nftGeneration(netfilter)),
);
print(
  'nftGeneration, opening one in the namespace',
  measure(200, () => void ns.run(() => nftGeneration())),
);
addBridge('br0', route);
addAddress(findLink('br0', route)?.index ?? 0, '10.0.0.1/24', route);
print(
  'addVeth + findLink + deleteLink',
  measure(10, () => {
    addVeth('left', 'right', {}, route);
    deleteLink(findLink('left', route)?.index ?? 0, route);
  }),
);
print(
  'listRules',
  measure(100, () => void listRules(route)),
);
print(
  'listRoutes of one table',
  measure(100, () => void listRoutes(254, route)),
);
print(
  'listLinks + listAddresses',
  measure(100, () => void [listLinks(route), listAddresses(route)]),
);
print(
  'listListeners, none there',
  measure(50, () => void listListeners(diag)),
);

const one = openUdp('ipv4');
const two = openUdp('ipv4');
for (const fd of [one, two]) bindTo(fd, { ip: '127.0.0.1', port: 0 });
const slab = Slab.allocate(1024);
const peers = UdpAddresses.allocate(2);
peers.set(0, localAddress(two));
for (const count of [1, 4, 8, 32]) {
  const batch = UdpBatch.allocate(count, 512);
  const into = UdpBatch.allocate(count, 512);
  for (let i = 0; i < count; i++) {
    batch.peers.copy(i, peers, 0);
    batch.setLength(i, 60);
  }
  const single = measure(3200 / count, () => {
    for (let i = 0; i < count; i++) sendTo(one, slab, 0, 60, peers, 0);
    for (let i = 0; i < count; i++) recvFrom(two, slab, 512, 512, peers, 1);
  });
  const batched = measure(3200 / count, () => {
    batch.send(one, 0, count);
    into.receive(two);
  });
  print(`sendTo + recvFrom of 60 bytes, ${count} in a row, each`, single / count);
  print(`UdpBatch of ${count}, each`, batched / count);
}

const fds = openFdCount();
const leakRound = () => {
  for (let i = 0; i < 500; i++) ns.run(() => runNft(program));
  return Math.round(process.memoryUsage().rss / 1024);
};
const sizes = [leakRound(), leakRound(), leakRound(), leakRound()];
console.log(`2000 programs: ${openFdCount() - fds} descriptors more, resident KiB after each 500: ${sizes.join(', ')}`);
for (const socket of [route, netfilter, diag, one, two, ns]) socket.close();
