// `ambit demo` as a person starts it: what it reports, how it ends, and that nothing is left of it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { sandboxSkip } from '@ambit/testbed';

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const LIMIT_MS = 90_000;
const GONE_MS = 10_000;

interface EdgeDocument {
  readonly source: string;
  readonly destination: string;
  readonly [fact: string]: unknown;
}

interface DemoDocument {
  readonly clean: boolean;
  readonly mode: string;
  readonly store: string;
  readonly firstRowSeconds: number;
  readonly findings: readonly { readonly code: string }[];
  readonly edges: readonly EdgeDocument[];
  readonly proof: Readonly<Record<string, unknown>> & { readonly packets: number; readonly plaintextPackets: number };
}

function start(...args: readonly string[]) {
  return spawn(process.execPath, [MAIN, 'demo', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

async function run(...args: readonly string[]) {
  const child = start(...args);
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { stdout, stderr, code: child.exitCode };
}

async function document(...args: readonly string[]) {
  const { stdout, stderr, code } = await run(...args, '--output', 'json');
  assert.notEqual(stdout, '', stderr);
  return { document: JSON.parse(stdout) as DemoDocument, code };
}

function edgeOf({ edges }: DemoDocument, source: string, destination: string): EdgeDocument {
  const edge = edges.find(item => item.source === source && item.destination === destination);
  assert.ok(edge, `no edge from ${source} to ${destination}`);
  return edge;
}

function facts(edge: EdgeDocument, names: readonly string[]): unknown[] {
  return names.map(name => edge[name]);
}

const id = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;

describe('ambit demo', { skip: sandboxSkip(), timeout: 4 * LIMIT_MS }, () => {
  test('reports verified, encrypted edges, the denial by its policy, and a wire without plaintext', async () => {
    const { document: result, code } = await document('--for', '3s', '--store', 'own');
    assert.deepEqual(result.findings, []);
    assert.equal(code, 0);
    assert.equal(result.store, 'own');
    const names = ['encrypted', 'tunnel', 'sourceIdentity', 'destinationIdentity', 'denied', 'plaintextConnections'];
    const tls = { version: 'TLSv1.3', group: 'X25519MLKEM768', cipher: 'TLS_AES_128_GCM_SHA256' };
    for (const [from, to] of [
      ['web', 'cart'],
      ['cart', 'db'],
    ] as const) {
      const edge = edgeOf(result, `shop/${from}`, `shop/${to}`);
      assert.deepEqual(facts(edge, names), [true, 'HBONE', id(from), id(to), 0, 0]);
      assert.deepEqual(edge['tls'], tls);
      assert.ok(Number(edge['bytes']) > 0 && Number(edge['connections']) > 0 && Number(edge['requests']) > 0);
    }
    const denied = edgeOf(result, 'shop/stranger', 'shop/cart');
    assert.deepEqual(facts(denied, ['policy', 'requests', 'sourceIdentity']), ['shop/cart-callers', 0, id('stranger')]);
    assert.ok(Number(denied['denied']) > 0);
    const outside = edgeOf(result, 'plain/outside', 'shop/web');
    assert.deepEqual(facts(outside, ['encrypted', 'tunnel', 'sourceIdentity', 'tls']), [false, 'TCP', null, null]);
    const { packets, plaintextPackets, markersFound, unjudgedPackets, control } = result.proof;
    assert.ok(packets > 0);
    assert.deepEqual(
      { plaintextPackets, markersFound, unjudgedPackets },
      { plaintextPackets: 0, markersFound: 0, unjudgedPackets: 0 },
    );
    assert.ok((control as { markersFound: number }).markersFound > 0, 'the detector finds plaintext where it runs');
  });

  test('ends with status 1 when an edge is not encrypted, and says which', async () => {
    const { document: result, code } = await document('--for', '1s', '--break-encryption');
    assert.equal(code, 1);
    assert.equal(result.clean, false);
    assert.ok(result.findings.some(finding => finding.code === 'demo.not_encrypted'));
    assert.ok(result.findings.some(finding => finding.code === 'demo.wire_readable'));
    assert.equal(edgeOf(result, 'shop/web', 'shop/cart')['encrypted'], false);
    assert.ok(result.proof.plaintextPackets > 0 && Number(result.proof['markersFound']) > 0);
  });

  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    test(`${signal} leaves no process and no namespace behind`, async () => {
      const child = start();
      child.stderr.resume();
      await traffic(child);
      const ours = netnsOf('self');
      const inside = livingUnder(child);
      assert.ok(inside.length > 5, 'shop, proxies and namespaces are there');
      const exit = once(child, 'exit');
      child.kill(signal);
      await exit;
      const networks = new Set(inside.map(({ netns }) => netns).filter(netns => netns !== ours));
      await allGone(networks);
      if (signal === 'SIGINT') assert.equal(child.exitCode, 0);
    });
  }

  test('without network namespaces there are two proxies on loopback, it says so, and nothing stays', async () => {
    // The kernel refuses namespaces in earnest here, as an ordinary container does.
    const forbid = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"';
    const command = [process.execPath, MAIN, 'demo', '--for', '2s', '-o', 'json'];
    const child = spawn('unshare', ['--user', '--map-root-user', 'sh', '-c', forbid, 'sh', ...command]);
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    assert.match(stderr, /^note: no network namespaces, so two proxies on loopback/m);
    assert.equal(child.exitCode, 0, stderr);
    const result = JSON.parse(stdout) as DemoDocument;
    assert.deepEqual([result.mode, result.proof, result.edges.length], ['loopback', null, 1]);
    const edge = edgeOf(result, 'shop/web', 'shop/cart');
    assert.deepEqual(facts(edge, ['encrypted', 'sourceIdentity', 'destinationIdentity']), [
      true,
      id('web'),
      id('cart'),
    ]);
  });

  test('SIGKILL on loopback ends proxies and programs, and there is no file to be left', async () => {
    const files = readdirSync(tmpdir()).filter(name => name.startsWith('ambit-'));
    const child = start('--loopback');
    child.stderr.resume();
    await traffic(child);
    const started = livingUnder(child).map(({ pid }) => pid);
    assert.ok(started.length >= 5, 'two proxies and two programs are there');
    assert.deepEqual(
      readdirSync(tmpdir()).filter(name => name.startsWith('ambit-')),
      files,
    );
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
    const deadline = performance.now() + GONE_MS;
    const left = (): string[] => started.filter(pid => netnsOf(pid) !== '');
    while (left().length > 0 && performance.now() < deadline) await delay(20);
    assert.deepEqual(left(), []);
  });

  test('wrong usage is status 2 with a next step', async () => {
    for (const args of [['--for', 'soon'], ['-o', 'yaml'], ['-o', 'json'], ['--no-such']]) {
      const { stderr, stdout, code } = await run(...args);
      assert.deepEqual([code, stdout], [2, ''], args.join(' '));
      assert.match(stderr, /^error: /);
    }
  });
});

async function traffic({ stdout }: ChildProcess): Promise<void> {
  assert.ok(stdout);
  for await (const line of createInterface({ input: stdout })) if (line.includes('traffic:')) return;
  assert.fail('it ended before there was traffic');
}

interface Process {
  readonly pid: string;
  readonly netns: string;
}

function netnsOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return ''; // gone, or a zombie
  }
}

function processes(): Process[] {
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name));
  return pids.map(pid => ({ pid, netns: netnsOf(pid) })).filter(({ netns }) => netns !== '');
}

function livingIn(netns: string): Process[] {
  return processes().filter(item => item.netns === netns);
}

/** After a SIGKILL the kernel takes the rest down by itself and tells nobody, so it is asked, for a bounded time. */
async function allGone(networks: ReadonlySet<string>): Promise<void> {
  const deadline = performance.now() + GONE_MS;
  const living = (): Process[] => [...networks].flatMap(livingIn);
  while (living().length > 0 && performance.now() < deadline) await delay(20);
  assert.deepEqual(living(), []);
}

function livingUnder(child: ChildProcess): Process[] {
  const parentOf = new Map(processes().map(({ pid }) => [pid, parent(pid)]));
  const isUnder = (pid: string | undefined): boolean =>
    pid !== undefined && (pid === String(child.pid) || isUnder(parentOf.get(pid)));
  return processes().filter(({ pid }) => isUnder(pid));
}

function parent(pid: string): string | undefined {
  try {
    return /^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}
