// The DNS proxy in real pods: dig, glibc and musl as clients, unbound as the resolver behind it.
import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Pod, SANDBOX_DIR, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { awaitNewLine, makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { Net } from './e2e-net.ts';
import { dig, LARGE, serveZone } from './name-server.ts';
import { missing } from './peer-programs.ts';

const WEB = 8080;
/** Any address does: the rules lead it to the proxy. */
const ANY = '@203.0.113.53';
const CART = 'cart.shop.svc.cluster.local';

describe('the DNS proxy', { skip: sandboxSkip() || missing('dig', 'unbound') }, () => {
  let mesh: Mesh;
  let peers: Net;
  let onN1: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;
  /** Its loopback has no IPv6. */
  let four: Pod;
  let resolver: Pod;
  let resolvConf: string;
  let vip4: string;
  let vip6: string;

  before(async () => {
    mesh = await makeMesh('bed', { dnsCapture: true });
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    four = await bed.addPod({ node: 'n1', name: 'four', namespace: 'shop', serviceAccount: 'four' });
    await four.run('ip', ['-6', 'address', 'delete', '::1/128', 'dev', 'lo']);
    resolver = await bed.addPod({ node: 'n2', name: 'resolver', namespace: 'kube-system', enrolled: false });
    const service = await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: WEB } });
    [vip4 = '', vip6 = ''] = service.vips.map(({ ip }) => ip).toSorted((a, b) => a.length - b.length);
    const many = Array.from({ length: LARGE }, (_, index) => `10.250.0.${index}`);
    await bed.addService({ name: 'large', namespace: 'shop', vips: many, ports: { 80: WEB }, app: 'cart' });
    await bed.addService({ name: 'headless', namespace: 'shop', vips: [], ports: { 80: WEB }, app: 'cart' });
    peers.listen(
      cart,
      WEB,
      http.createServer((_, response) => void response.end('this is cart')),
    );
    await serveZone(resolver);
    resolvConf = join(await mkdtemp(join(SANDBOX_DIR, 'resolv-')), 'resolv.conf');
    await writeFile(resolvConf, `nameserver ${resolver.ip4}\n`);
    const env = { AMBIT_RESOLV_CONF: resolvConf, RUST_LOG: 'info,dns=debug', ZTUNNEL_WORKER_THREADS: '2' };
    [onN1] = await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  test('a service has its addresses, by UDP and TCP, over IPv4 and IPv6, with AA and 30 s', async () => {
    for (const how of [
      [ANY],
      [ANY, '+tcp'],
      ['@2001:db8::53'],
      ['@2001:db8::53', '+tcp'],
      ['@127.0.0.1', '-p', '15053'],
      ['@::1', '-p', '15053'],
    ]) {
      const found = await dig(web, ...how, `${CART}.`);
      assert.equal(found.status, 'NOERROR', `${how.join(' ')}\n${found.text}`);
      assert.deepEqual(found.answers, [`${CART}. A ${vip4}`]);
      assert.deepEqual(found.ttls, [30]);
      assert.ok(found.flags.includes('aa') && found.flags.includes('ra'));
    }
    const six = await dig(web, ANY, 'AAAA', `${CART}.`);
    assert.deepEqual(six.answers, [`${CART}. AAAA ${vip6}`]);
    const headless = await dig(web, ANY, 'headless.shop.svc.cluster.local.');
    assert.deepEqual(headless.answers, [`headless.shop.svc.cluster.local. A ${cart.ip4}`]);
  });

  test('a pod without IPv6 on its loopback is served by IPv4, and one that asks without end harms no other', async () => {
    assert.equal((await dig(four, ANY, `${CART}.`)).status, 'NOERROR');
    assert.match((await dig(four, '@::1', '-p', '15053', `${CART}.`)).status, /^none/);
    // Random names, as fast as they go out.
    const flooding = awaitNewLine(
      onN1,
      line => line['src.workload'] === 'four' && /^\d{5}$/.test(String(line['domain'])),
    );
    const flood = four.exec('bash', ['--norc', '-c', FLOOD], { stdio: 'ignore' });
    await flooding;
    // New names, for which the main thread and the resolver are asked as for those of the flood.
    for (let round = 0; round < 10; round++) {
      assert.equal((await dig(web, ANY, '+timeout=2', `r${round}.zone.test.`)).status, 'NXDOMAIN');
    }
    flood.kill();
  });

  test('short names are answered under the name that was asked, and a search domain becomes an alias', async () => {
    assert.deepEqual((await dig(web, ANY, 'CaRt.')).answers, [`CaRt. A ${vip4}`]);
    assert.deepEqual((await dig(web, ANY, 'cart.shop.')).answers, [`cart.shop. A ${vip4}`]);
    const long = 'cart.shop.shop.svc.cluster.local.';
    assert.deepEqual((await dig(web, ANY, long)).answers, [`cart.shop. A ${vip4}`, `${long} CNAME cart.shop.`]);
  });

  test('EDNS is answered when asked with: version, DO and size; a later version is refused', async () => {
    const found = await dig(web, ANY, '+bufsize=1400', '+dnssec', `${CART}.`);
    assert.equal(found.edns, 'version: 0, flags: do; udp: 1400');
    assert.equal((await dig(web, ANY, '+noedns', `${CART}.`)).edns, undefined);
    const later = await dig(web, ANY, '+edns=1', '+noednsneg', `${CART}.`);
    assert.equal(later.status, 'BADVERS');
  });

  test('256 addresses: 74 with TC in 1232 bytes, all of them by TCP and on the second try', async () => {
    const name = 'large.shop.';
    const cut = await dig(web, ANY, '+bufsize=1232', '+ignore', name);
    assert.equal(cut.answers.length, 74);
    assert.ok(cut.flags.includes('tc'));
    for (const how of ['+tcp', '+bufsize=1232']) {
      const whole = await dig(web, ANY, how, name);
      assert.equal(new Set(whole.answers).size, LARGE);
      assert.ok(!whole.flags.includes('tc'));
    }
  });

  test('what is not the mesh’s comes as the resolver says it, whatever it is', async () => {
    for (const question of [
      ['www.zone.test.'],
      ['AAAA', 'www.zone.test.'],
      ['alias.zone.test.'],
      ['MX', 'mail.zone.test.'],
      ['SRV', '_web._tcp.zone.test.'],
      ['TYPE65280', 'odd.zone.test.'],
      ['TXT', 'text.zone.test.'],
      ['TXT', 'text.zone.test.', '+noedns'],
      ['TXT', 'text.zone.test.', '+tcp'],
      ['large.zone.test.', '+tcp', '+noedns'],
      ['large.zone.test.', '+noedns', '+ignore'],
      ['large.zone.test.', '+bufsize=1232', '+ignore'],
      // No such name, and no such record: both with the SOA that says how long that holds.
      ['gone.zone.test.'],
      ['MX', 'www.zone.test.'],
      ['www.zone.test.', '+dnssec', '+cdflag'],
      ['www.zone.test.', '+adflag', '+cookie=0102030405060708'],
      ['www.zone.test.', '+subnet=192.0.2.0/24'],
      ['wWw.ZoNe.TeSt.'],
      ['ANY', 'www.zone.test.', '+tcp'],
      ['HTTPS', 'www.zone.test.'],
      ['CH', 'TXT', 'version.bind.'],
      // Names that no host has: a dot in a label, a byte beyond ASCII, the longest label, the longest name, the root.
      [String.raw`a\.b.zone.test.`],
      [String.raw`\255\000.zone.test.`],
      [`${'x'.repeat(63)}.zone.test.`],
      [`${`${'x'.repeat(59)}.`.repeat(4)}xx.zone.test.`],
      ['.'],
    ]) {
      const told = await dig(resolver, `@${resolver.ip4}`, ...question);
      const found = await dig(web, ANY, ...question);
      const what = `${question.join(' ')}\n${found.text}`;
      assert.equal(found.status, told.status, what);
      assert.deepEqual(found.authority, told.authority, what);
      assert.deepEqual(found.flags, told.flags, what);
      assert.equal(found.edns, told.edns, what);
      assert.equal(found.answers.length, told.answers.length, what);
      // A cut answer may hold others of the many.
      if (!found.flags.includes('tc')) assert.deepEqual(found.answers, told.answers, what);
    }
    const gone = await dig(web, ANY, 'gone.zone.test.');
    assert.equal(gone.status, 'NXDOMAIN');
    assert.match(gone.authority.join(), /SOA ns\.zone\.test\./);
  });

  test('a kept answer counts down and is asked for anew when its time is over', async () => {
    const first = await dig(web, ANY, 'short.zone.test.');
    assert.deepEqual(first.answers, ['short.zone.test. A 192.0.2.7']);
    await new Promise(resolve => setTimeout(resolve, 1100));
    const later = await dig(web, ANY, 'short.zone.test.');
    assert.deepEqual(later.answers, first.answers);
    assert.deepEqual(later.ttls, [1]);
  });

  test('a name server that is gone fails over to the next, and a changed resolv.conf counts without a restart', async () => {
    // Nobody is at the first, nobody listens at the second.
    await useResolvers('203.0.113.1', cart.ip4, resolver.ip6);
    assert.deepEqual((await dig(web, ANY, 'www.zone.test.')).answers, ['www.zone.test. A 192.0.2.1']);
    assert.equal((await dig(web, ANY, 'mail.zone.test.', 'MX')).answers.length, 1);
    await useResolvers(cart.ip4);
    const failed = awaitNewLine(
      onN1,
      line => line.scope === 'dns' && String(line['result']).startsWith('forwarding failed'),
    );
    const none = await dig(web, ANY, 'www.zone.test.');
    assert.equal(none.status, 'SERVFAIL');
    assert.deepEqual(none.answers, []);
    await failed;
    // The mesh's own names need no resolver.
    assert.equal((await dig(web, ANY, `${CART}.`)).status, 'NOERROR');
    await useResolvers(resolver.ip4);
    assert.equal((await dig(web, ANY, 'www.zone.test.')).status, 'NOERROR');
  });

  async function useResolvers(...ips: string[]): Promise<void> {
    const taken = awaitNewLine(onN1, line => line['resolvers'] === ips.join(' '));
    await writeFile(resolvConf, ips.map(ip => `nameserver ${ip}\n`).join(''));
    await taken;
  }

  test('a query is logged at debug with who asked what', async () => {
    const line = awaitNewLine(onN1, each => each.scope === 'dns' && each['domain'] === 'cart.shop');
    await dig(web, ANY, 'cart.shop.');
    const { level, message, scope, ...fields } = await line;
    assert.equal(level, 'debug');
    assert.equal(fields['src.workload'], 'web');
    assert.equal(fields['src.namespace'], 'shop');
    assert.equal(fields['query'], 'A');
    assert.equal(fields['result'], 'success');
    assert.equal(fields['endpoints'], 1);
    assert.ok(message !== '' && scope === 'dns');
  });

  /** Runs a program in the pod with a resolv.conf as Kubernetes writes it. */
  async function runWithResolvConf(...command: string[]): ReturnType<Pod['run']> {
    const conf = join(SANDBOX_DIR, 'pod-resolv.conf');
    const search = 'shop.svc.cluster.local svc.cluster.local cluster.local';
    await writeFile(conf, `nameserver 203.0.113.53\nsearch ${search}\noptions ndots:5\n`);
    const mounted = ['-c', 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"', 'sh', conf];
    return web.run('unshare', ['-m', 'sh', ...mounted, ...command]);
  }

  test('glibc resolves by search domains and forwarding, and curl reaches the service by its short name', async () => {
    const cartNow = await runWithResolvConf('getent', 'ahosts', 'cart');
    assert.ok(cartNow.stdout.includes(vip4) && cartNow.stdout.includes(vip6), cartNow.stdout + cartNow.stderr);
    const outside = await runWithResolvConf('getent', 'ahostsv4', 'www.zone.test');
    assert.match(outside.stdout, /192\.0\.2\.1/);
    assert.notEqual((await runWithResolvConf('getent', 'ahostsv4', 'gone.zone.test')).code, 0);
    const page = await runWithResolvConf('curl', '-sS', '--max-time', '8', '--noproxy', '', 'http://cart/');
    assert.equal(page.stdout, 'this is cart', page.stderr);
  });

  test('c-ares, which Node resolves with, gets every type, and what UDP cuts by TCP', async () => {
    const { stdout, stderr } = await web.run(process.execPath, ['--input-type=module', '-e', ARES, CART]);
    assert.deepEqual(JSON.parse(stdout || '0'), [[vip4], [vip6], LARGE, 600, 'www.zone.test', 'ENOTFOUND'], stderr);
  });

  test('musl resolves by search domains and forwarding', { skip: missing('musl-gcc') }, async () => {
    const lookup = join(SANDBOX_DIR, 'lookup');
    const built = await web.run('musl-gcc', ['-static', '-o', lookup, '-x', 'c', '-'], { input: LOOKUP });
    assert.equal(built.code, 0, built.stderr);
    const cartNow = await runWithResolvConf(lookup, 'cart');
    assert.ok(cartNow.stdout.includes(vip4) && cartNow.stdout.includes(vip6), cartNow.stdout + cartNow.stderr);
    assert.match((await runWithResolvConf(lookup, 'www.zone.test')).stdout, /^192\.0\.2\.1$/m);
    // More than 512 bytes: musl asks again by TCP, or before 1.2.4 takes the whole records that came.
    const large = await runWithResolvConf(lookup, 'large.shop');
    assert.ok(large.stdout.split('\n').length > 20, large.stdout);
    assert.notEqual((await runWithResolvConf(lookup, 'gone.zone.test')).code, 0);
  });
});

/** What Node's own resolver makes of the mesh's names and of those of the zone. */
const ARES = `
import { promises } from 'node:dns';
const resolver = new promises.Resolver({ timeout: 4000, tries: 1 });
resolver.setServers(['203.0.113.53']);
const [text] = await resolver.resolveTxt('text.zone.test');
const [service] = await resolver.resolveSrv('_web._tcp.zone.test');
console.log(JSON.stringify([
  await resolver.resolve4(process.argv.at(-1)),
  await resolver.resolve6(process.argv.at(-1)),
  (await resolver.resolve4('large.shop')).length,
  text.join('').length,
  service.name,
  await resolver.resolve4('gone.zone.test').catch(error => error.code),
]));`;

/** Sends a question (A of a random name) again and again, and reads no answer. */
const FLOOD = String.raw`exec 3<>/dev/udp/127.0.0.1/15053
while :; do printf '\0\1\1\0\0\1\0\0\0\0\0\0\5%05d\0\0\1\0\1' $((RANDOM)) >&3; done`;

/** getaddrinfo of the libc that it is built with. */
const LOOKUP = `
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
  int error = getaddrinfo(argv[argc - 1], 0, &hints, &found);
  if (error) return 1;
  for (; found; found = found->ai_next) {
    char text[64];
    getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
    puts(text);
  }
  return 0;
}`;
