import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno, recv, setReceiveBuffer, setSendBuffer, Slab } from '@ambit/native';
import {
  clientContext,
  connectSessions,
  makeMesh,
  serverContext,
  type SessionPair,
} from '../../native/test/tls-testing.ts';
import { Engine, TRANSMIT_BYTES } from './engine.ts';
import { MemoryBudget } from './memory-budget.ts';
import { TunnelOutput } from './tunnel-output.ts';

const mesh = makeMesh();

/** The far end: receives at most so many bytes and keeps what it decrypts. */
class Reader {
  readonly #pair: SessionPair;
  readonly #slab = Slab.allocate(4 * TRANSMIT_BYTES);
  #have = 0;
  readonly parts: Buffer[] = [];
  bytes = 0;

  constructor(pair: SessionPair) {
    this.#pair = pair;
  }

  /** How much there was, up to `limit`. */
  read(limit: number): number {
    const n = recv(this.#pair.pair.server, this.#slab, this.#have, Math.min(limit, this.#slab.size - this.#have));
    if (n === -Errno.EAGAIN) return 0;
    assert.ok(n > 0, `recv gave ${n}`);
    this.#have += n;
    let at = 0;
    for (;;) {
      if (this.#have - at < 5) break;
      const length = 5 + this.#slab.bytes.readUInt16BE(at + 3);
      if (this.#have - at < length) break;
      const content = this.#pair.server.records.open(this.#slab, at, length);
      assert.ok(content >= 0, `record refused: ${content}`);
      this.bytes += content;
      this.parts.push(Buffer.from(this.#slab.bytes.subarray(at + 5, at + 5 + content)));
      at += length;
    }
    this.#slab.bytes.copyWithin(0, at, this.#have);
    this.#have -= at;
    return n;
  }
}

async function withOutput(run: (output: TunnelOutput, reader: Reader) => void): Promise<void> {
  const certificates = await mesh;
  using pair = connectSessions(clientContext(certificates), serverContext(certificates));
  setSendBuffer(pair.pair.client, 131_072);
  setReceiveBuffer(pair.pair.server, 262_144);
  const budget = new MemoryBudget(64 * 1024 * 1024);
  const engine = new Engine(budget);
  const output = new TunnelOutput(engine, pair.client.records, pair.pair.client);
  run(output, new Reader(pair));
  output.close();
  engine.close();
  assert.equal(budget.usedBytes, 0);
}

/** Writes a numbered piece; false when there was no room. */
function write(output: TunnelOutput, number: number): boolean {
  const at = output.reserve(8000);
  if (at < 0) return false;
  output.buffer.fill(number & 0xff, at, at + 8000);
  return true;
}

test('a slow reader that keeps a slab busy for ever is served from the room that sent bytes leave', () =>
  withOutput((output, reader) => {
    let written = 0;
    // Three slabs' worth, of which never less than one piece and never more than a quarter of a slab is unsent.
    while (written < (3 * TRANSMIT_BYTES) / 8000) {
      while (output.queuedBytes < TRANSMIT_BYTES / 4) {
        assert.ok(write(output, written++), `no room for piece ${written}`);
        assert.equal(output.flush(), 0);
      }
      reader.read(100_000);
      output.isWritable = true;
      assert.equal(output.flush(), 0);
      assert.ok(output.queuedBytes > 0, 'the slab is never empty');
    }
    assert.equal(output.broken, undefined);
    while (output.queuedBytes > 0) {
      reader.read(1_000_000);
      output.isWritable = true;
      output.flush();
    }
    while (reader.bytes < written * 8000) reader.read(1_000_000);
    const all = Buffer.concat(reader.parts);
    for (let i = 0; i < written; i++) assert.equal(all[i * 8000 + 7999], i & 0xff, `piece ${i}`);
  }));

test('a reader that never reads breaks the output when the slab is full, and not before', () =>
  withOutput(output => {
    let written = 0;
    while (write(output, written)) {
      written++;
      output.flush();
      assert.ok(written < 1000);
    }
    assert.equal(output.broken, 'overflow');
    assert.ok(written * 8000 > TRANSMIT_BYTES * 0.95);
  }));

test('user data stops long before control frames have no room', () =>
  withOutput(output => {
    let written = 0;
    while (output.acceptsData && write(output, written)) {
      written++;
      output.flush();
    }
    assert.ok(output.queuedBytes > 200 * 1024 && output.queuedBytes < 300 * 1024);
    for (let i = 0; i < 4000; i++) assert.ok(output.reserve(13) >= 0);
    assert.equal(output.broken, undefined);
  }));
