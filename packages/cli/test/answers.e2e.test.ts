// `ambit why`, `tap`, `top`, `stat` and `findings` over two real ztunnels and real traffic, allowed, denied and failing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { EdgeReport } from '@ambit/insight';
import { createMatch } from '@ambit/mesh';
import { type BedNode, type Pod, SANDBOX_DIR, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { makeRoot } from '../../native/test/certificates.ts';
import { makeMesh, type Mesh, startOurs, usePolicies } from '../../ztunnel/test/e2e-mesh.ts';
import { Net } from '../../ztunnel/test/e2e-net.ts';
import { findings } from '../src/commands/findings.ts';
import { stat } from '../src/commands/stat.ts';
import { tap } from '../src/commands/tap.ts';
import { why } from '../src/commands/why.ts';
import type { WhyAnswer } from '../src/why-answer.ts';
import { PLAIN } from '../src/render/style.ts';
import type { Screen } from '../src/screen.ts';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const WEB = 8080;
const CLOSED = 8099;
const ADMIN = 15_000;

interface Said {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

describe('answers about real traffic', { skip: sandboxSkip(), concurrency: false }, () => {
  let mesh: Mesh;
  let peers: Net;
  let ztunnels: ZtunnelProcess[];
  let web: Pod;
  let cart: Pod;
  const servers: net.Server[] = [];
  const bases: string[] = [];

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    await bed.addPod({ node: 'n1', name: 'stranger', namespace: 'shop', serviceAccount: 'stranger' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    const outside = await bed.addPod({ node: 'n2', name: 'outside', namespace: 'shop', enrolled: false });
    await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: WEB, 81: CLOSED } });
    for (const pod of [cart, outside]) {
      peers.listen(
        pod,
        WEB,
        http.createServer((request, response) => {
          response.statusCode = request.url === '/fail' ? 503 : 200;
          response.end('hello\n');
        }),
      );
    }
    ztunnels = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    const callers = [createMatch({ serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }] })];
    await usePolicies(bed, ztunnels, [{ name: 'callers', namespace: 'shop', app: 'cart', rules: [[callers]] }]);
    bases.push(await forward(bed.node('n1')), await forward(bed.node('n2')));
  });

  after(async () => {
    for (const server of servers) server.close();
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  /** The admin port of a node on a port of the test's own, as kubectl port-forward does. */
  async function forward(node: BedNode): Promise<string> {
    const server = net.createServer(socket => {
      socket.on('error', () => undefined);
      void tunnel(socket, node);
    });
    servers.push(server);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    // It listens on TCP, so its address is one.
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async function tunnel(socket: net.Socket, node: BedNode): Promise<void> {
    try {
      const upstream = await peers.connect(node, '127.0.0.1', ADMIN);
      socket.pipe(upstream).pipe(socket);
      socket.on('close', () => upstream.destroy());
      upstream.on('close', () => socket.destroy());
    } catch {
      socket.destroy();
    }
  }

  async function curl(pod: Pod, url: string): Promise<number> {
    const { stdout } = await pod.run('sh', ['-c', `curl -s -o /dev/null -m 10 ${url}; echo $?`]);
    return Number(stdout.trim());
  }

  async function run(
    command: (screen: Screen) => Promise<number>,
    onSaid: (out: string) => void = () => undefined,
    width = 80,
  ): Promise<Said> {
    const said = { out: '', err: '' };
    const status = await command({
      output: {
        style: PLAIN,
        answer: text => {
          said.out += text;
          onSaid(said.out);
        },
        remark: text => {
          said.err += text;
        },
      },
      isTerminal: false,
      width: () => width,
      height: () => 24,
    });
    return { status, ...said };
  }

  const ask = async (from: string, to: string, ztunnel: readonly string[] = bases, output = 'table') =>
    run(async screen => why(from, to, { ztunnel, output }, screen));

  function vip(): string {
    const [address] = mesh.bed.services[0]?.vips.filter(({ ip }) => !ip.includes(':')) ?? [];
    assert.ok(address);
    return address.ip;
  }

  /** Records arrive when workers tell; the edge is there once both ends did. */
  async function untilEdge(wanted: (edges: EdgeReport['edges']) => boolean): Promise<void> {
    const deadline = Date.now() + 30_000;
    for (;;) {
      const reports = await Promise.all(bases.map(async base => (await fetch(`${base}/edges`)).json()));
      if (wanted((reports as EdgeReport[]).flatMap(({ edges }) => edges))) return;
      assert.ok(Date.now() < deadline, JSON.stringify(reports));
    }
  }

  test('why says of an allowed connection how it was protected and what it carried', async () => {
    const none = await ask('web', 'cart:80');
    assert.deepEqual([none.status, /^Allowed: .*no\s+traffic seen/.test(none.out)], [0, true], none.out);
    assert.equal(await curl(web, `http://${vip()}/`), 0);
    const { status, out } = await ask('shop/web', 'shop/cart:80');
    assert.equal(status, 0, out);
    assert.match(out, /^Allowed: /);
    assert.match(out, /ALLOW {2}shop\/callers rule 1 matches/);
    assert.match(out, /seen +1 attempt in 10 min, opened, the last .*, without fault/);
    assert.match(out, /mTLS TLSv1\.3/);
    for (const line of out.split('\n')) assert.ok(line.length <= 80, line);
  });

  test('why says which policy denies, from either end', async () => {
    const [stranger] = mesh.bed.pods.filter(({ name }) => name === 'stranger');
    assert.ok(stranger);
    assert.notEqual(await curl(stranger, `http://${vip()}/`), 0);
    for (const ztunnel of [bases, bases.slice(0, 1), bases.slice(1)]) {
      const { status, out } = await ask('stranger', 'cart:80', ztunnel);
      assert.equal(status, 1, out);
      assert.match(out, /^Denied: no rule of policy shop\/callers allows it +\[policy\.no_allow_match\]/);
      assert.match(out, /seen +1 attempt in 10 min, denied/);
    }
    const { status, out } = await ask('stranger', 'cart:80', bases, 'json');
    const { verdict, reason, page, seen } = JSON.parse(out) as WhyAnswer;
    assert.deepEqual([status, verdict, reason, seen.counts.denied], [1, 'denied', 'policy.no_allow_match', 1]);
    assert.equal(page, 'docs/reasons/policy.md#policyno_allow_match');
    assert.deepEqual(seen.last?.source.split(' ')[0], stranger.ip4);
  });

  test('why says that plaintext is plaintext, and which names are nearest', async () => {
    const { out, status } = await ask('web', 'outside:8080');
    assert.deepEqual([status, out.split(':')[0]], [0, 'Plain text']);
    const unknown = await ask('strangr', 'cart:80');
    assert.equal(unknown.status, 2);
    assert.match(unknown.err, /did you mean shop\/stranger\?/);
  });

  test('why puts a closed port before a plan that allows it', async () => {
    assert.notEqual(await curl(web, `http://${vip()}:81/`), 0);
    const { status, out } = await ask('web', 'cart:81');
    assert.equal(status, 1, out);
    assert.match(out, /^Fails: the destination refused the connection\s+\[dial\.refused\]/);
    assert.match(out, /note +the configuration allows it/);
    assert.match(out, /next: nothing listens on that port/);
    assert.match(out, /docs\/reasons\/dial\.md/);
  });

  test('one ztunnel that is away is a warning, all of them are status 3', async () => {
    const away = 'http://127.0.0.1:1';
    const some = await ask('web', 'cart:80', [away, ...bases]);
    assert.deepEqual([some.status, some.err.startsWith(`warning: cannot reach ${away}`)], [0, true]);
    const all = await ask('web', 'cart:80', [away]);
    assert.equal(all.status, 3);
    assert.match(all.err, /port-forward/);
  });

  test('tap shows connections and requests of both ends, and what was asked for only', async () => {
    const stop = new AbortController();
    const tapped = run(async screen =>
      tap({ ztunnel: bases, to: 'shop/cart', l7: true, count: '24', for: '60s', output: 'table' }, screen),
    ).finally(() => stop.abort());
    // Whoever listens is there a moment later than it is asked; until then requests go unseen.
    while (!stop.signal.aborted) await curl(web, `http://${vip()}/fail`);
    const { out, status } = await tapped;
    assert.equal(status, 0);
    assert.match(out, /shop\/web +-> shop\/cart +503 +GET \/fail/);
    assert.match(out, /shop\/web +=> shop\/cart/);
    assert.equal(out.trim().split('\n').length, 24);
    for (const line of out.trim().split('\n')) assert.ok(line.length <= 80, line);
  });

  test('stat counts what curl made', async () => {
    let counted = 0;
    const earlier = await total();
    const measured = run(async screen =>
      stat({ ztunnel: bases, to: 'cart', by: 'edge', sort: 'rate', interval: '3s', output: 'json' }, screen),
    );
    for (; counted < 10; counted++) assert.equal(await curl(web, `http://${vip()}/`), 0);
    const { out, status } = await measured;
    assert.equal(status, 0);
    const { rows } = JSON.parse(out) as { rows: readonly { from: string; to: string; counts: { requests: number } }[] };
    assert.deepEqual(
      rows.map(({ from, to }) => `${from} ${to}`),
      ['shop/web shop/cart:80'],
    );
    assert.ok((rows[0]?.counts.requests ?? 0) <= counted);
    assert.equal((await total()) - earlier, counted);
  });

  /** Requests from web to cart since the beginning, both ends merged. */
  async function total(): Promise<number> {
    const { mergeReports } = await import('@ambit/insight');
    const reports = await Promise.all(bases.map(async base => (await fetch(`${base}/edges`)).json()));
    return mergeReports(reports as EdgeReport[])
      .filter(({ source, port }) => source.name === 'shop/web' && port === 80)
      .reduce((sum, { totals }) => sum + totals.requests, 0);
  }

  test('findings answer with a status that scripts can use', async () => {
    const { status, out } = await run(async screen => findings({ ztunnel: bases, output: 'json' }, screen));
    const all = JSON.parse(out) as readonly { severity: string }[];
    assert.equal(status, all.some(({ severity }) => severity !== 'info') ? 1 : 0);
  });

  test('top draws on a terminal and quits with q', async () => {
    const words = bases.map(base => `--ztunnel ${base}`).join(' ');
    const line = `stty rows 24 cols 80; exec ${process.execPath} ${MAIN} top ${words}`;
    const child = spawn('script', ['-qec', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), 90_000);
    const traffic = { isWanted: true };
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString('utf8');
      if (!traffic.isWanted || !/shop\/web +shop\/cart:80 +.*mTLS/.test(said)) return;
      traffic.isWanted = false;
      child.stdin.write('q');
    });
    const ended = once(child, 'close');
    while (traffic.isWanted && child.exitCode === null) await curl(web, `http://${vip()}/`);
    const [status] = (await ended) as [number | null];
    clearTimeout(timer);
    assert.equal(status, 0, said);
    assert.ok(said.startsWith('\u001B[?1049h') && said.trimEnd().endsWith('\u001B[?1049l'), 'the screen is given back');
  });

  test('why names a root that is not trusted, which no plan knows of', async () => {
    const [, n2] = ztunnels;
    assert.ok(n2);
    await n2.stop();
    const root = await makeRoot();
    const directory = await mkdtemp(join(SANDBOX_DIR, 'other-ca-'));
    const [certPath, keyPath] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
    const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', root.keys.privateKey)).toString('base64');
    await writeFile(certPath, root.certPem);
    await writeFile(
      keyPath,
      `-----BEGIN PRIVATE KEY-----\n${(key.match(/.{1,64}/g) ?? []).join('\n')}\n-----END PRIVATE KEY-----\n`,
    );
    const env = { AMBIT_DEV_CA_CERT: certPath, AMBIT_DEV_CA_KEY: keyPath };
    ztunnels[1] = await startOurs(mesh.bed, 'n2', { env });
    assert.notEqual(await curl(web, `http://${vip()}/`), 0);
    await untilEdge(edges => edges.some(({ last }) => last?.reason?.startsWith('tls.') === true));
    const { status, out } = await ask('web', 'cart:80');
    assert.equal(status, 1, out);
    assert.match(out, /^Fails: the peer certificate does not chain to a trusted root\s+\[tls\.untrusted_root\]/);
    assert.match(out, /next: compare the roots/);
  });
});
