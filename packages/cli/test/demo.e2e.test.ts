// `ambit demo` as a person starts it: what it reports, how it ends, and that nothing is left of it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { sandboxSkip } from '@ambit/testbed';

const EXAMPLES = join(import.meta.dirname, '..', '..', '..', 'examples', 'shop');
const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts');
const LIMIT_MS = 90_000;
const GONE_MS = 10_000;

interface FaultDocument {
  readonly injected: string;
  readonly foundAfterSeconds: number;
  readonly finding: { readonly code: string; readonly subject: string; readonly next: string };
}

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
  readonly fault: FaultDocument | null;
  readonly control: Readonly<Record<string, unknown>>;
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
    const { objects, ...rest } = result.control;
    assert.match(String(objects), /examples\/shop$/);
    const counts = { workloads: 5, services: 3, policies: 1 };
    const url = 'https://10.61.0.1:15012';
    assert.deepEqual(rest, { url, ...counts, problems: [], edited: false, failure: null });
  });

  test('one fault is made and found by its status codes, and the store is known by what it speaks', async () => {
    const { document: result, code } = await document('--for', '25s', '--store', 'own');
    assert.deepEqual([code, result.findings], [0, []]);
    assert.ok(result.fault !== null);
    const { injected, foundAfterSeconds, finding } = result.fault;
    assert.match(injected, /^shop\/cart answers .* 503$/);
    assert.ok(foundAfterSeconds > 0);
    assert.deepEqual([finding.code, finding.subject], ['detect.error_shift', 'shop/web -> shop/cart:80']);
    assert.match(finding.next, /^ambit tap --to shop\/cart /);
    const statuses = edgeOf(result, 'shop/web', 'shop/cart')['statuses'] as Readonly<Record<string, number>>;
    assert.ok(Number(statuses['2xx']) > 0 && Number(statuses['5xx']) > 0);
    assert.deepEqual(edgeOf(result, 'shop/cart', 'shop/db')['protocols'], ['redis']);
  });

  test('a policy that is edited while it runs shows on the table, and is no fault', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'my-shop-'));
    try {
      cpSync(EXAMPLES, directory, { recursive: true });
      const path = join(directory, 'policies.yaml');
      const original = readFileSync(path, 'utf8');
      const child = start('--objects', directory, '-o', 'json', '--for', '60s');
      const said = linesOf(child.stderr);
      const stdout = text(child.stdout);
      await said.until(/traffic:/);
      writeFileSync(path, original.replace(/^# *(- cluster.local\/ns\/shop\/sa\/stranger)$/m, '        $1'));
      await said.until(/^ {2}change shop\/stranger to shop\/cart: encrypted, was denied by shop\/cart-callers$/);
      writeFileSync(path, `${original}---\nkind: [`);
      await said.until(/^ {2}change objects: .*policies\.yaml:\d+:\d+: .* \[config\.yaml_syntax\]$/);
      writeFileSync(path, original);
      await said.until(/^ {2}change shop\/stranger to shop\/cart: denied by shop\/cart-callers, was encrypted$/);
      child.kill('SIGINT');
      const [result] = await Promise.all([stdout, once(child, 'close')]);
      const seen = JSON.parse(result) as DemoDocument;
      assert.deepEqual([child.exitCode, seen.findings], [0, []]);
      assert.deepEqual([seen.control['edited'], seen.control['problems']], [true, []]);
      const stranger = edgeOf(seen, 'shop/stranger', 'shop/cart');
      assert.deepEqual(facts(stranger, ['configured', 'now', 'plaintextConnections']), ['denied', 'denied', 0]);
      assert.ok(Number(stranger['connections']) > 0 && Number(stranger['denied']) > 0);
      assert.equal(seen.proof.plaintextPackets, 0);
    } finally {
      rmSync(directory, { recursive: true });
    }
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

  test('without network namespaces there are a control plane and two proxies on loopback, and it says so', async () => {
    // The kernel refuses namespaces in earnest here, as an ordinary container does.
    const forbid = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"';
    const command = [process.execPath, MAIN, 'demo', '--for', '2s', '-o', 'json'];
    const child = spawn('unshare', ['--user', '--map-root-user', 'sh', '-c', forbid, 'sh', ...command]);
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    assert.match(stderr, /^note: no network namespaces, so two proxies on loopback/m);
    assert.equal(child.exitCode, 0, stderr);
    const result = JSON.parse(stdout) as DemoDocument;
    assert.deepEqual([result.mode, result.proof, result.edges.length], ['loopback', null, 1]);
    assert.deepEqual([result.control['workloads'], result.control['policies']], [5, 1]);
    const edge = edgeOf(result, 'shop/web', 'shop/cart');
    assert.deepEqual(facts(edge, ['encrypted', 'sourceIdentity', 'destinationIdentity']), [
      true,
      id('web'),
      id('cart'),
    ]);
  });

  test('SIGKILL on loopback ends control plane, proxies and programs, and no file is left', async () => {
    const before = ourFiles();
    const child = start('--loopback');
    child.stderr.resume();
    await traffic(child);
    const started = livingUnder(child).map(({ pid }) => pid);
    assert.ok(started.length >= 6, 'control plane, two proxies and two programs are there');
    const made = ourFiles().filter(path => !before.includes(path));
    assert.ok(made.length > 0, 'there is a directory that has to go');
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
    const deadline = performance.now() + GONE_MS;
    // Others may make files of that name meanwhile.
    const left = (): string[] => [
      ...started.filter(pid => netnsOf(pid) !== ''),
      ...ourFiles().filter(path => made.includes(path)),
    ];
    while (left().length > 0 && performance.now() < deadline) await delay(20);
    assert.deepEqual(left(), []);
  });

  test('wrong usage is status 2 with a next step', async () => {
    for (const args of [['--for', 'soon'], ['-o', 'yaml'], ['-o', 'json'], ['--no-such'], ['--objects', MAIN]]) {
      const { stderr, stdout, code } = await run(...args);
      assert.deepEqual([code, stdout], [2, ''], args.join(' '));
      assert.match(stderr, /^error: /);
    }
  });
});

/** Files and directories of ours, where temporary things go. */
function ourFiles(): string[] {
  const places = [tmpdir(), '/dev/shm'].filter(place => existsSync(place));
  return places
    .flatMap(place => readdirSync(place).map(name => join(place, name)))
    .filter(path => /\/ambit-/.test(path));
}

/** What a child says, line by line. */
function linesOf(stream: Readable) {
  const lines = createInterface({ input: stream })[Symbol.asyncIterator]();
  return {
    /** Waits for the next line that matches; those before it are gone. */
    until: async (pattern: RegExp): Promise<void> => {
      for (let said = ''; ; ) {
        const { value, done } = await lines.next();
        assert.ok(done !== true, `it ended without saying ${String(pattern)}: ${said}`);
        if (pattern.test(value)) return;
        said += `\n${value}`;
      }
    },
  };
}

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
