// librdkafka as client (kcat) and as broker (the one it brings for tests, in a second kcat): what the reader counts is what
// the broker says it received. That broker answers even those who want no acknowledgement, so they are not asked for here.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { findProgram } from '../../test/foreign-server.ts';
import { countsOf } from '../../test/l7-recorder.ts';
import { L7Relay } from '../../test/l7-relay.ts';
import { KafkaReader } from './kafka.ts';

const run = promisify(execFile);
const kcat = findProgram('/usr/bin/kcat');
const skip = kcat === undefined && 'no client of Kafka: apt-get install kcat';
const MESSAGES = 2000;

// A broker that writes down each request it receives.
class Broker implements AsyncDisposable {
  readonly #child: ChildProcess;
  log = '';

  constructor() {
    const args = ['-C', '-b', 'none', '-t', 'nothing', '-X', 'test.mock.num.brokers=1', '-X', 'debug=mock'];
    this.#child = spawn(kcat ?? '', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr?.setEncoding('latin1').on('data', (text: string) => {
      this.log += text;
    });
  }

  async port(): Promise<number> {
    for (;;) {
      const found = /bootstrap\.servers=127\.0\.0\.1:(\d+)/.exec(this.log);
      if (found !== null) return Number(found[1]);
      const { stderr } = this.#child;
      assert.ok(stderr !== null && this.#child.exitCode === null, this.log);
      await once(stderr, 'data');
    }
  }

  /** Requests by name that came from those ports, once it has written down that many. */
  async received(ports: readonly number[], total: number): Promise<Record<string, number>> {
    for (;;) {
      const counts = this.#count(ports);
      if (Object.values(counts).reduce((sum, count) => sum + count, 0) >= total) return counts;
      const { stderr } = this.#child;
      assert.ok(stderr !== null);
      await once(stderr, 'data');
    }
  }

  #count(ports: readonly number[]): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const [, name = '', port] of this.log.matchAll(/Received (\w+)RequestV\d+ from 127\.0\.0\.1:(\d+)/g)) {
      if (!ports.includes(Number(port))) continue;
      // Its own name for it lacks a letter.
      const method = name === 'ApiVersion' ? 'ApiVersions' : name;
      counts[method] = (counts[method] ?? 0) + 1;
    }
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
}

describe('Kafka', { skip }, () => {
  test('every request of a producer and of a consumer is told once', { timeout: 60_000 }, async () => {
    await using broker = new Broker();
    const brokerPort = await broker.port();
    await using relay = await L7Relay.start(brokerPort, listener => new KafkaReader(listener));
    relay.rewrite = bytes => showRelay(bytes, brokerPort, relay.port);
    for (const acks of ['all', '1']) {
      const args = ['-P', '-b', `127.0.0.1:${relay.port}`, '-t', 'news', '-p', '0', '-X', `acks=${acks}`];
      const producing = run(kcat ?? '', [...args, '-X', 'linger.ms=0', '-X', 'batch.num.messages=20']);
      producing.child.stdin?.end(Array.from({ length: MESSAGES }, (_, at) => `${at} ${'x'.repeat(200)}\n`).join(''));
      await producing;
    }
    const consume = ['-C', '-b', `127.0.0.1:${relay.port}`, '-t', 'news', '-p', '0', '-o', 'beginning', '-e', '-q'];
    const { stdout } = await run(kcat ?? '', consume, { maxBuffer: 64 << 20 });
    await relay.idle();
    const told = relay.recorders.flatMap(({ requests }) => requests);
    const received = await broker.received(relay.ports, told.length);
    assert.deepEqual(
      relay.recorders.flatMap(({ givenUp }) => givenUp),
      [],
    );
    // It refuses the client's first version of ApiVersions on each connection, with 35, and tells the ones it has.
    const { 'ApiVersions:35': refused = 0, ApiVersions: accepted = 0, ...others } = countsOf(relay.recorders);
    assert.ok(refused > 0 && accepted > 0);
    assert.deepEqual({ ...others, ApiVersions: refused + accepted }, received);
    assert.ok((received.Produce ?? 0) >= MESSAGES / 20 && (received.Fetch ?? 0) > 0);
    assert.ok(stdout.length > 0);
  });
});

// A broker names itself by address and port, and clients go there: the same length, another port.
function showRelay(bytes: Uint8Array, from: number, to: number): void {
  const told = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = Buffer.concat([Buffer.from('127.0.0.1'), port32(from)]);
  for (let at = told.indexOf(name); at >= 0; at = told.indexOf(name, at + 1)) {
    port32(to).copy(told, at + name.length - 4);
  }
}

function port32(port: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(port);
  return bytes;
}
