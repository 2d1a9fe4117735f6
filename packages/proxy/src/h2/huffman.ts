// Huffman strings of HPACK (RFC 7541 §5.2): a decoder that eats four bits a step from one 16 KiB table, and a
// small encoder for tests and benches. Decoding refuses EOS, padding over 7 bits and padding that is not all ones.

import type { Buffer } from 'node:buffer';
import { HUFFMAN_EOS, HUFFMAN_LENGTHS, huffmanCodes } from './hpack-tables.ts';

// A table entry: next state in bits 0-7, symbol in bits 8-15, then two flags.
const EMIT = 0x1_0000;
const FAIL = 0x2_0000;

const { steps, accepting } = buildTables();

/** Decoded bytes that `encodedBytes` of Huffman code can give at most: the shortest code has five bits. */
export function huffmanDecodedBound(encodedBytes: number): number {
  return Math.ceil((encodedBytes * 8) / 5);
}

/**
 * Decodes `source[start, end)` into `target` at `offset`, which must have room for `huffmanDecodedBound(end - start)`.
 * @returns the offset after the decoded bytes, or -1 when the code is malformed.
 */
export function huffmanDecode(source: Uint8Array, start: number, end: number, target: Buffer, offset: number): number {
  let state = 0;
  let at = offset;
  for (let i = start; i < end; i++) {
    const byte = source[i] ?? 0;
    let step = steps[(state << 4) | (byte >>> 4)] ?? FAIL;
    if ((step & EMIT) !== 0) target[at++] = (step >>> 8) & 0xff;
    else if ((step & FAIL) !== 0) return -1;
    step = steps[((step & 0xff) << 4) | (byte & 0xf)] ?? FAIL;
    if ((step & EMIT) !== 0) target[at++] = (step >>> 8) & 0xff;
    else if ((step & FAIL) !== 0) return -1;
    state = step & 0xff;
  }
  return accepting[state] === 1 ? at : -1;
}

/**
 * Encodes a latin-1 string into `target` at `offset`. Our own header blocks are plain literals; this exists so that
 * tests can make any Huffman string.
 * @returns the offset after the encoded bytes.
 */
export function huffmanEncode(text: string, target: Buffer, offset: number): number {
  const codes = huffmanCodes();
  let at = offset;
  // At most 7 bits are pending when a code of up to 30 comes in: 37 bits, so this is arithmetic and not bit shifts.
  let pending = 0;
  let bits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i) & 0xff;
    const length = HUFFMAN_LENGTHS[symbol] ?? 0;
    pending = pending * 2 ** length + (codes[symbol] ?? 0);
    bits += length;
    while (bits >= 8) {
      bits -= 8;
      const byte = Math.floor(pending / 2 ** bits);
      target[at++] = byte;
      pending -= byte * 2 ** bits;
    }
  }
  if (bits > 0) target[at++] = (pending << (8 - bits)) | (0xff >>> bits);
  return at;
}

// The states are the 256 inner nodes of the code tree, the root being 0. A node accepts the end of the string when
// it is reached from the root by at most seven ones: what is pending is then legal padding.
function buildTables(): { steps: Uint32Array; accepting: Uint8Array } {
  const children = buildTree();
  const stepTable = new Uint32Array(256 * 16);
  for (let state = 0; state < 256; state++) {
    for (let nibble = 0; nibble < 16; nibble++) stepTable[(state << 4) | nibble] = walk(children, state, nibble);
  }
  const acceptingStates = new Uint8Array(256);
  let node = 0;
  for (let depth = 0; depth <= 7; depth++) {
    acceptingStates[node] = 1;
    node = children[node * 2 + 1] ?? 0;
  }
  return { steps: stepTable, accepting: acceptingStates };
}

// children[2 * node + bit] is an inner node when >= 0, and the complement of a symbol when negative.
function buildTree(): Int32Array {
  const codes = huffmanCodes();
  const children = new Int32Array(256 * 2);
  let nodes = 1;
  for (const [symbol, length] of HUFFMAN_LENGTHS.entries()) {
    const code = codes[symbol] ?? 0;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const slot = node * 2 + ((code >>> bit) & 1);
      if (children[slot] === 0) children[slot] = nodes++;
      node = children[slot] ?? 0;
    }
    children[node * 2 + (code & 1)] = ~symbol;
  }
  return children;
}

function walk(children: Int32Array, state: number, nibble: number): number {
  let node = state;
  let result = 0;
  for (let bit = 3; bit >= 0; bit--) {
    const child = children[node * 2 + ((nibble >>> bit) & 1)] ?? 0;
    if (child >= 0) {
      node = child;
      continue;
    }
    if (~child === HUFFMAN_EOS) return FAIL;
    // Codes are five bits or longer, so four bits finish at most one.
    result = EMIT | (~child << 8);
    node = 0;
  }
  return result | node;
}
