import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PlaintextTap } from './plaintext-tap.ts';
import type { DetectingReader, L7Sniffer } from './types.ts';

const BYTES = Buffer.from('0123456789');

/** Notes what it is shown and what it is spared. */
class Witness implements DetectingReader {
  readonly saw: string[] = [];
  reader: L7Sniffer = this;
  skippableFromClient = 0;
  skippableFromServer = 0;

  fromClient(bytes: Uint8Array, start: number, end: number): void {
    this.saw.push(`client ${Buffer.from(bytes.subarray(start, end)).toString()}`);
  }
  fromServer(bytes: Uint8Array, start: number, end: number): void {
    this.saw.push(`server ${Buffer.from(bytes.subarray(start, end)).toString()}`);
  }
  skipFromClient(bytes: number): void {
    this.skippableFromClient -= bytes;
    this.saw.push(`client skips ${bytes}`);
  }
  skipFromServer(bytes: number): void {
    this.skippableFromServer -= bytes;
    this.saw.push(`server skips ${bytes}`);
  }
  end(byClient: boolean): void {
    this.saw.push(byClient ? 'client left' : 'server left');
  }
}

function fail(error: unknown): void {
  throw error;
}

test('the TCP side is the client of an outbound connection and the server of an inbound one', () => {
  for (const [side, other] of [
    ['client', 'server'],
    ['server', 'client'],
  ] as const) {
    const witness = new Witness();
    const tap = new PlaintextTap(witness, side, fail);
    tap.fromTcp(BYTES, 0, 3, 0);
    tap.toTcp(BYTES, 3, 5, 0);
    assert.deepEqual(witness.saw, [`${side} 012`, `${other} 34`]);
  }
});

test('what may be skipped is not shown, and what follows it is', () => {
  const witness = new Witness();
  witness.skippableFromClient = 14;
  const tap = new PlaintextTap(witness, 'client', fail);
  tap.fromTcp(BYTES, 0, 10, 0);
  tap.fromTcp(BYTES, 0, 10, 0);
  assert.deepEqual(witness.saw, ['client skips 10', 'client skips 4', 'client 456789']);
});

test('once it is known what there is to read, its reader is shown the bytes directly', () => {
  const witness = new Witness();
  const reader = new Witness();
  const tap = new PlaintextTap(witness, 'client', fail);
  tap.fromTcp(BYTES, 0, 1, 0);
  witness.reader = reader;
  tap.fromTcp(BYTES, 1, 2, 0);
  tap.fromTcp(BYTES, 2, 3, 0);
  tap.end(true, 0);
  assert.deepEqual([witness.saw, reader.saw], [['client 0', 'client 1', 'client left'], ['client 2']]);
});

test('a connection that is read elsewhere is shown no more, its end neither', () => {
  const witness = new Witness();
  const tap = new PlaintextTap(witness, 'client', fail);
  tap.letGo();
  tap.fromTcp(BYTES, 0, 1, 0);
  tap.end(true, 0);
  assert.deepEqual([tap.isDone, witness.saw], [true, []]);
});

test('a reader that has given up both sides is let go when bytes come', () => {
  const witness = new Witness();
  const tap = new PlaintextTap(witness, 'client', fail);
  witness.skippableFromClient = Number.POSITIVE_INFINITY;
  tap.toTcp(BYTES, 0, 1, 0);
  assert.equal(tap.isDone, false);
  witness.skippableFromServer = Number.POSITIVE_INFINITY;
  tap.toTcp(BYTES, 0, 1, 0);
  assert.deepEqual([tap.isDone, witness.saw], [true, ['server 0']]);
});

test('a fault in a reader ends the reading and nothing else', () => {
  const faults: unknown[] = [];
  const witness = new Witness();
  witness.fromServer = () => {
    throw new Error('bug');
  };
  const tap = new PlaintextTap(witness, 'client', error => faults.push(error));
  tap.toTcp(BYTES, 0, 1, 0);
  tap.fromTcp(BYTES, 0, 1, 0);
  tap.end(true, 0);
  assert.deepEqual([faults.length, tap.isDone, witness.saw], [1, true, []]);
});
