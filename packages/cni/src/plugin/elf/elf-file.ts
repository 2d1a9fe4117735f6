// Puts code and data into a static executable for Linux: an ELF header, one segment to run, one to write to with room at its
// end, and a stack that cannot be run. No sections, no symbols, nobody to link with. System V ABI, chapters 4 and 5.
import type { CodeBuffer } from './code-buffer.ts';

export type Architecture = 'x64' | 'arm64';

/** A piece of data under a label; each starts at a multiple of eight bytes. */
export interface DataPiece {
  readonly label: string;
  /** Addresses of other labels, eight bytes each, or bytes. */
  readonly content: Uint8Array | readonly (string | undefined)[];
}

/** e_machine: EM_X86_64, EM_AARCH64. */
const MACHINE: Readonly<Record<Architecture, number>> = { x64: 62, arm64: 183 };

const BASE = 0x400000;
/** The largest page that arm64 kernels use: segments must not share one. */
const PAGE = 0x10000;
const HEADER = 64;
const PROGRAM_HEADER = 56;
const SEGMENTS = 3;
const CODE_AT = HEADER + SEGMENTS * PROGRAM_HEADER;
const READ_RUN = 5;
const READ_WRITE = 6;

/** The label of the room behind the data, which is zero at the start. */
export const ROOM = 'room';

export function linkExecutable(
  architecture: Architecture,
  code: CodeBuffer,
  data: readonly DataPiece[],
  roomBytes: number,
): Uint8Array<ArrayBuffer> {
  const dataAt = align(CODE_AT + code.length);
  // In the file the data follows the code; in memory it lies pages further on, at the same distance from a page's start.
  const dataAddress = BASE + PAGE + dataAt;
  const labels = new Map<string, number>();
  let end = dataAddress;
  for (const { label, content } of data) {
    labels.set(label, end);
    end = align(end + lengthOf(content));
  }
  labels.set(ROOM, end);
  const dataBytes = end - dataAddress;

  const file = new Uint8Array(dataAt + dataBytes);
  const view = new DataView(file.buffer);
  file.set(header(MACHINE[architecture]));
  segment(view, HEADER, { type: 1, flags: READ_RUN, at: 0, address: BASE, bytes: CODE_AT + code.length, room: 0 });
  segment(view, HEADER + PROGRAM_HEADER, {
    type: 1,
    flags: READ_WRITE,
    at: dataAt,
    address: dataAddress,
    bytes: dataBytes,
    room: roomBytes,
  });
  // PT_GNU_STACK
  segment(view, HEADER + 2 * PROGRAM_HEADER, {
    type: 0x6474e551,
    flags: READ_WRITE,
    at: 0,
    address: 0,
    bytes: 0,
    room: 0,
  });
  file.set(code.link(BASE + CODE_AT, labels), CODE_AT);
  for (const { label, content } of data) {
    const at = dataAt + (labels.get(label) ?? 0) - dataAddress;
    if (content instanceof Uint8Array) file.set(content, at);
    else content.forEach((to, i) => view.setUint32(at + 8 * i, to === undefined ? 0 : addressOf(labels, to), true));
  }
  return file;
}

function header(machine: number): Uint8Array {
  const bytes = new Uint8Array(HEADER);
  const view = new DataView(bytes.buffer);
  // Magic, 64 bits, least significant byte first, version 1.
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, machine, true);
  view.setUint32(20, 1, true);
  view.setUint32(24, BASE + CODE_AT, true); // entry
  view.setUint32(32, HEADER, true); // program headers
  view.setUint16(52, HEADER, true);
  view.setUint16(54, PROGRAM_HEADER, true);
  view.setUint16(56, SEGMENTS, true);
  view.setUint16(58, 64, true); // size of a section header, of which there are none
  return bytes;
}

interface Segment {
  readonly type: number;
  readonly flags: number;
  readonly at: number;
  readonly address: number;
  readonly bytes: number;
  /** Bytes in memory beyond those of the file. */
  readonly room: number;
}

/** All values are below 4 GiB, so the upper halves of the 64-bit fields stay zero. */
function segment(view: DataView, to: number, { type, flags, at, address, bytes, room }: Segment): void {
  view.setUint32(to, type, true);
  view.setUint32(to + 4, flags, true);
  view.setUint32(to + 8, at, true);
  view.setUint32(to + 16, address, true);
  view.setUint32(to + 24, address, true);
  view.setUint32(to + 32, bytes, true);
  view.setUint32(to + 40, bytes + room, true);
  view.setUint32(to + 48, type === 1 ? PAGE : 16, true);
}

function lengthOf(content: DataPiece['content']): number {
  return content instanceof Uint8Array ? content.length : 8 * content.length;
}

function addressOf(labels: ReadonlyMap<string, number>, label: string): number {
  const address = labels.get(label);
  if (address === undefined) throw new Error(`data ${label} stands nowhere`);
  return address;
}

function align(value: number): number {
  return Math.ceil(value / 8) * 8;
}
