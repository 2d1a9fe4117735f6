// The registry as gzip, in pieces. Blocks of rows that did not change since they were last asked for are copied as they were
// compressed then, which is most of a large mesh; everything else is compressed anew. What is kept is bounded, and gone when
// nobody has asked for a while.
import { EOF } from './exposition.ts';
import { familyText, hasSeries, type FamilyText, type TextFormat } from './family-text.ts';
import { GzipFrame, type GzipPart, gzipPart, joinParts } from './gzip-parts.ts';
import type { MetricRegistry } from './metric-registry.ts';
import type { Column } from './metric-table.ts';
import { mostBytes, Piece } from './piece.ts';
import type { RowBlock } from './row-blocks.ts';

/** Text that is compressed at once. */
const TEXT_BYTES = 256 * 1024;
const OUT_BYTES = 64 * 1024;
/** Blocks of fewer rows are compressed with their neighbours. */
const MIN_ROWS = 32;
const MAX_KEPT_BYTES = 32 << 20;
/** What a kept part costs beside its bytes. */
const PART_OVERHEAD = 300;

interface Kept extends GzipPart {
  readonly version: number;
  usedMs: number;
}

/** Compressed blocks, by block and by metric and format. */
export class PackedBlocks {
  readonly #maxBytes: number;
  readonly #blocks = new Map<RowBlock, Map<string, Kept>>();
  #bytes = 0;

  constructor(maxBytes = MAX_KEPT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The part that was kept, or the one that `pack` makes. */
  get(block: RowBlock, column: Column, format: TextFormat, pack: () => GzipPart): GzipPart {
    // Only histograms differ between formats in their lines.
    const key = column.shape.type === 'histogram' ? `${column.metric} ${format}` : String(column.metric);
    const version = block.versions[column.metric] ?? 0;
    let parts = this.#blocks.get(block);
    const found = parts?.get(key);
    if (found?.version === version) {
      found.usedMs = performance.now();
      return found;
    }
    const part = pack();
    this.#bytes += costOf(part) - (found === undefined ? 0 : costOf(found));
    if (this.#bytes > this.#maxBytes) {
      this.#bytes -= costOf(part);
      parts?.delete(key);
      return part;
    }
    if (parts === undefined) this.#blocks.set(block, (parts = new Map<string, Kept>()));
    parts.set(key, { ...part, version, usedMs: performance.now() });
    return part;
  }

  /** Lets go what was not asked for in the last `idleMs`, blocks that are no more among it. */
  sweep(idleMs: number): void {
    const before = performance.now() - idleMs;
    for (const [block, parts] of this.#blocks) {
      for (const [key, part] of parts) {
        if (part.usedMs > before) continue;
        parts.delete(key);
        this.#bytes -= costOf(part);
      }
      if (parts.size === 0) this.#blocks.delete(block);
    }
  }
}

function costOf({ packed }: GzipPart): number {
  return packed.length + PART_OVERHEAD;
}

/** Pieces of about 64 KiB; each is good until the next one is asked for. */
export function* packedExposition(
  registry: MetricRegistry,
  format: TextFormat,
  kept: PackedBlocks,
): Generator<Uint8Array, void, undefined> {
  const packer = new Packer();
  for (const table of registry.read()) {
    for (const column of table.columns) {
      const text = familyText(column, format);
      let isHeaded = false;
      for (const block of table.blocks()) {
        const shown = block.rows.some(row => hasSeries(row, column));
        if (!shown) continue;
        if (!isHeaded) yield* packer.text(text.head);
        isHeaded = true;
        if (block.rows.length < MIN_ROWS) yield* packer.rows(block, column, text);
        else yield* packer.part(() => kept.get(block, column, format, () => packer.pack(block, column, text)));
      }
    }
  }
  if (format === 'openmetrics') yield* packer.text(EOF);
  yield* packer.end();
}

class Packer {
  readonly #frame = new GzipFrame();
  /** What is not compressed yet. */
  readonly #loose = new Piece(TEXT_BYTES);
  readonly #out = new Piece(OUT_BYTES);

  constructor() {
    this.#out.putBytes(this.#frame.head);
  }

  *text(text: string): Generator<Uint8Array> {
    yield* this.#room(mostBytes(text));
    this.#loose.put(text);
  }

  *rows({ rows }: RowBlock, column: Column, text: FamilyText): Generator<Uint8Array> {
    for (const row of rows) {
      if (!hasSeries(row, column)) continue;
      yield* this.#room(text.size(row.labels.length));
      text.put(this.#loose, row);
    }
  }

  /** @param make is called when nothing waits to be compressed before it */
  *part(make: () => GzipPart): Generator<Uint8Array> {
    yield* this.#pack();
    yield* this.#put(make());
  }

  /** A block by itself. */
  pack({ rows }: RowBlock, column: Column, text: FamilyText): GzipPart {
    const parts: GzipPart[] = [];
    const piece = this.#loose;
    for (const row of rows) {
      if (!hasSeries(row, column)) continue;
      const size = text.size(row.labels.length);
      if (!piece.hasRoom(size)) {
        if (!piece.isEmpty) parts.push(gzipPart(piece.take()));
        piece.grow(size);
      }
      text.put(piece, row);
    }
    if (!piece.isEmpty) parts.push(gzipPart(piece.take()));
    return joinParts(parts);
  }

  *end(): Generator<Uint8Array> {
    yield* this.#pack();
    const tail = this.#frame.tail();
    if (!this.#out.hasRoom(tail.length)) yield this.#out.take();
    this.#out.putBytes(tail);
    yield this.#out.take();
  }

  *#room(bytes: number): Generator<Uint8Array> {
    if (this.#loose.hasRoom(bytes)) return;
    yield* this.#pack();
    this.#loose.grow(bytes);
  }

  *#pack(): Generator<Uint8Array> {
    if (!this.#loose.isEmpty) yield* this.#put(gzipPart(this.#loose.take()));
  }

  *#put(part: GzipPart): Generator<Uint8Array> {
    this.#frame.add(part);
    const { packed } = part;
    if (!this.#out.hasRoom(packed.length) && !this.#out.isEmpty) yield this.#out.take();
    if (this.#out.hasRoom(packed.length)) this.#out.putBytes(packed);
    else yield packed;
  }
}
