// ServiceEntries that DNS resolves, through all parts: the control plane gives the host an address, the node proxy answers the
// application with it, and looks the host up with the node's resolver (dnsmasq) when the application connects.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ControlProcess, type Pod, sandboxSkip, type Testbed, type ZtunnelProcess } from '@ambit/testbed';
import { ECHO, makeBed, scratch, serveEcho, startControl, until, untilSynced } from './control-mesh.ts';
import { awaitLine, awaitNewLine, startOurs } from './e2e-mesh.ts';
import { Net, tryEcho } from './e2e-net.ts';
import { missing } from './peer-programs.ts';

const PORT = 5432;

interface More {
  readonly labels?: Readonly<Record<string, string>>;
  readonly endpoints?: readonly object[];
}

function serviceEntry(name: string, host: string, { labels = {}, endpoints = [] }: More = {}): string {
  return `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: shop, labels: ${JSON.stringify(labels)}}
spec:
  hosts: [${host}]
  resolution: DNS
  ports: [{number: ${PORT}, targetPort: ${ECHO}, name: tcp, protocol: TCP}]
  endpoints: ${JSON.stringify(endpoints)}
`;
}

describe('names of external services', { skip: sandboxSkip() || missing('dnsmasq', 'dig') }, () => {
  const closers = new AsyncDisposableStack();
  let bed: Testbed;
  let peers: Net;
  let control: ControlProcess;
  let ztunnel: ZtunnelProcess;
  let web: Pod;
  let quiet: Pod;
  let outside: Pod;

  before(async () => {
    peers = closers.use(new Net());
    bed = closers.use(await makeBed());
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    quiet = await bed.addPod({ node: 'n2', name: 'quiet', namespace: 'plain', enrolled: false });
    outside = await bed.addPod({ node: 'n2', name: 'outside', namespace: 'plain', enrolled: false });
    const cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    serveEcho(peers, outside);
    serveEcho(peers, cart);
    const directory = await scratch('names');
    await writeFile(
      join(directory, 'hosts'),
      [
        `${outside.ip4} db.example.org`,
        `${outside.ip6} six.example.org`,
        // Nobody listens on the first one.
        `${quiet.ip4} two.example.org`,
        `${outside.ip4} two.example.org`,
        `${outside.ip4} behind.example.net`,
        `${cart.ip4} cart.example.net`,
      ].join('\n'),
    );
    await writeFile(join(directory, 'resolv.conf'), 'nameserver 127.0.0.1\n');
    const dnsmasq = bed
      .node('n1')
      .processes.exec('dnsmasq', [
        '--keep-in-foreground',
        '--conf-file=/dev/null',
        '--no-resolv',
        '--no-hosts',
        '--local=/org/net/',
        '--user=root',
        `--pid-file=${join(directory, 'pid')}`,
        `--addn-hosts=${join(directory, 'hosts')}`,
        '--listen-address=127.0.0.1',
        '--bind-interfaces',
      ]);
    await once(dnsmasq, 'spawn');
    await bed.writeObjects('db.yaml', serviceEntry('db', 'db.example.org'));
    await bed.writeObjects('six.yaml', serviceEntry('six', 'six.example.org'));
    await bed.writeObjects('two.yaml', serviceEntry('two', 'two.example.org'));
    await bed.writeObjects('gone.yaml', serviceEntry('gone', 'gone.example.org'));
    await bed.writeObjects(
      'alias.yaml',
      serviceEntry('alias', 'alias.example.org', { endpoints: [{ address: 'behind.example.net' }] }),
    );
    const labels = { 'networking.istio.io/tunnel': 'http' };
    const endpoints = [{ address: 'cart.example.net', serviceAccount: 'cart' }];
    await bed.writeObjects('member.yaml', serviceEntry('member', 'member.example.org', { labels, endpoints }));
    control = await startControl(bed);
    await startOurs(bed, 'n2');
    ztunnel = await startOurs(bed, 'n1', {
      env: { ISTIO_META_DNS_CAPTURE: 'true', AMBIT_RESOLV_CONF: join(directory, 'resolv.conf') },
    });
    await untilSynced(control);
  });

  after(async () => closers.disposeAsync());

  async function lookUp(name: string, type = 'A'): Promise<readonly string[]> {
    const { stdout } = await web.run('dig', ['@127.0.0.1', '-p', '15053', '+short', '+tries=1', name, type]);
    return stdout.split('\n').filter(line => line !== '');
  }

  async function addressOf(name: string, type = 'A'): Promise<string> {
    let found: readonly string[] = [];
    await until(async () => (found = await lookUp(name, type)).length === 1, `${name} has an address`);
    return found[0] ?? '';
  }

  test('the mesh answers with an address of its own, and the connection goes to where the name leads', async () => {
    const address = await addressOf('db.example.org');
    assert.match(address, /^240\.240\./);
    const address6 = await addressOf('db.example.org', 'AAAA');
    assert.match(address6, /^2001:2::/);
    assert.equal(await tryEcho(peers, web, address, PORT), 'ok');
    const line = await awaitLine(
      ztunnel,
      l => l.scope === 'access' && l['dst.service'] === 'db.example.org' && l['error'] === undefined,
    );
    assert.equal(line['dst.addr'], `${outside.ip4}:${ECHO}`);
    // The other family of the same name leads to the one there is.
    assert.equal(await tryEcho(peers, web, address6, PORT), 'ok');
  });

  test('a name with an address of the other family only is reached all the same', async () => {
    assert.equal(await tryEcho(peers, web, await addressOf('six.example.org'), PORT), 'ok');
  });

  test('an endpoint that is itself a name is looked up, and not the host', async () => {
    assert.equal(await tryEcho(peers, web, await addressOf('alias.example.org'), PORT), 'ok');
  });

  test('a member of the mesh with a name is reached through a tunnel, as who it must be', async () => {
    assert.equal(await tryEcho(peers, web, await addressOf('member.example.org'), PORT), 'ok');
    const line = await awaitLine(ztunnel, l => l.scope === 'access' && l['dst.service'] === 'member.example.org');
    assert.equal(line['dst.identity'], 'spiffe://cluster.local/ns/shop/sa/cart');
    assert.match(String(line['dst.hbone_addr']), new RegExp(`:${ECHO}$`));
  });

  test('an address of the name that refuses is followed by the next one', async () => {
    const address = await addressOf('two.example.org');
    // Which one comes first is drawn for each connection.
    for (let round = 0; round < 12; round++) assert.equal(await tryEcho(peers, web, address, PORT), 'ok');
  });

  test('a name that nobody knows is a refusal that says so', async () => {
    const address = await addressOf('gone.example.org');
    const said = awaitNewLine(
      ztunnel,
      l => l.scope === 'access' && l['dst.service'] === 'gone.example.org' && l['error'] !== undefined,
    );
    assert.notEqual(await tryEcho(peers, web, address, PORT), 'ok');
    const line = await said;
    assert.match(String(line['error']), /gone\.example\.org does not exist/);
  });

  test('a host that leaves the mesh is the resolver\u2019s again', async () => {
    await addressOf('db.example.org');
    await bed.writeObjects('db.yaml', '');
    await until(async () => (await lookUp('db.example.org'))[0] === outside.ip4, 'the resolver answers');
  });
});
