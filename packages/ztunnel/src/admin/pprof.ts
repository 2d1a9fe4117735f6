// V8's profiles of several threads -> one profile in pprof's format, which `go tool pprof` and most viewers read
// (https://github.com/google/pprof/blob/main/proto/profile.proto). Each sample says its thread in the label `thread`. Pure.
import { ProtoWriter } from './proto-writer.ts';
import type { CallFrame, CpuProfile, HeapProfile, HeapProfileNode } from './v8-profile.ts';

/** What one thread gave. */
export interface ThreadProfile<P> {
  readonly thread: string;
  readonly profile: P;
}

export interface CpuProfileOptions {
  readonly periodNs: number;
  readonly durationMs: number;
  /** Unix epoch. */
  readonly timeMs: number;
  /** Shown by viewers: what is not in the profile. */
  readonly comments: readonly string[];
}

const PROFILE = {
  sampleType: 1,
  sample: 2,
  location: 4,
  function: 5,
  stringTable: 6,
  timeNanos: 9,
  durationNanos: 10,
  periodType: 11,
  period: 12,
  comment: 13,
} as const;

/** Frames of V8 that mean nobody ran. */
const IDLE: ReadonlySet<string> = new Set(['(idle)', '(root)']);
const MAX_DEPTH = 512;

/** Samples and the processor time they stand for. Threads that wait are not sampled. */
export function encodeCpu(threads: readonly ThreadProfile<CpuProfile>[], options: CpuProfileOptions): Uint8Array {
  const out = new Assembly();
  out.valueType(PROFILE.sampleType, 'samples', 'count');
  out.valueType(PROFILE.sampleType, 'cpu', 'nanoseconds');
  for (const { thread, profile } of threads) {
    const counts = new Map<number, number>();
    for (const id of profile.samples ?? []) counts.set(id, (counts.get(id) ?? 0) + 1);
    const nodes = new Map(profile.nodes.map(node => [node.id, node]));
    const parents = new Map(profile.nodes.flatMap(({ id, children = [] }) => children.map(child => [child, id])));
    for (const [id, count] of counts) {
      if (IDLE.has(nodes.get(id)?.callFrame.functionName ?? '(root)')) continue;
      const stack: CallFrame[] = [];
      for (let at: number | undefined = id; at !== undefined && stack.length < MAX_DEPTH; at = parents.get(at)) {
        const frame = nodes.get(at)?.callFrame;
        if (frame !== undefined && frame.functionName !== '(root)') stack.push(frame);
      }
      out.sample(stack, [count, count * options.periodNs], thread);
    }
  }
  out.time(options.timeMs);
  out.number(PROFILE.durationNanos, Math.round(options.durationMs * 1e6));
  out.number(PROFILE.period, options.periodNs);
  out.valueType(PROFILE.periodType, 'cpu', 'nanoseconds');
  return out.finish(options.comments);
}

/** Bytes of live objects by where they were allocated since the sampling began. */
export function encodeHeap(
  threads: readonly ThreadProfile<HeapProfile>[],
  options: { readonly timeMs: number; readonly comments: readonly string[] },
): Uint8Array {
  const out = new Assembly();
  out.valueType(PROFILE.sampleType, 'inuse_space', 'bytes');
  for (const { thread, profile } of threads) {
    const sizes = new Map<number, number>();
    for (const { nodeId, size } of profile.samples) sizes.set(nodeId, (sizes.get(nodeId) ?? 0) + size);
    for (const { stack, id } of walk(profile.head)) {
      const size = sizes.get(id);
      if (size !== undefined) out.sample(stack, [Math.round(size)], thread);
    }
  }
  out.time(options.timeMs);
  return out.finish(options.comments);
}

interface Walked {
  readonly id: number;
  /** Innermost first. */
  readonly stack: readonly CallFrame[];
}

function* walk(head: HeapProfileNode): Generator<Walked> {
  const open: { node: HeapProfileNode; stack: readonly CallFrame[] }[] = [{ node: head, stack: [] }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { node } = next;
    const isRoot = node.callFrame.functionName === '(root)';
    const stack = isRoot ? next.stack : [node.callFrame, ...next.stack].slice(0, MAX_DEPTH);
    yield { id: node.id, stack };
    for (const child of node.children) open.push({ node: child, stack });
  }
}

/** A profile under construction: numbers texts, functions and places as they come. */
class Assembly {
  readonly #out = new ProtoWriter();
  readonly #texts = new Map<string, number>([['', 0]]);
  readonly #places = new Map<string, number>();

  valueType(field: number, type: string, unit: string): void {
    const value = new ProtoWriter();
    value.number(1, this.#text(type));
    value.number(2, this.#text(unit));
    this.#out.message(field, value);
  }

  sample(stack: readonly CallFrame[], values: readonly number[], thread: string): void {
    const label = new ProtoWriter();
    label.number(1, this.#text('thread'));
    label.number(2, this.#text(thread));
    const sample = new ProtoWriter();
    sample.numbers(
      1,
      stack.map(frame => this.#place(frame)),
    );
    sample.numbers(2, values);
    sample.message(3, label);
    this.#out.message(PROFILE.sample, sample);
  }

  number(field: number, value: number): void {
    this.#out.number(field, value);
  }

  /** Nanoseconds since 1970 are more than a number holds exactly. */
  time(timeMs: number): void {
    this.#out.bigNumber(PROFILE.timeNanos, BigInt(Math.round(timeMs)) * 1_000_000n);
  }

  finish(comments: readonly string[]): Uint8Array {
    for (const comment of comments) this.#out.number(PROFILE.comment, this.#text(comment));
    for (const text of this.#texts.keys()) this.#out.text(PROFILE.stringTable, text);
    return this.#out.finish();
  }

  /** Function and place have the same number: V8 tells where a function begins, not the line that ran. */
  #place({ functionName, url, lineNumber }: CallFrame): number {
    const line = lineNumber + 1;
    const key = `${url}:${line}:${functionName}`;
    let id = this.#places.get(key);
    if (id !== undefined) return id;
    id = this.#places.size + 1;
    this.#places.set(key, id);
    const name = this.#text(functionName === '' ? `(anonymous ${fileName(url)}:${line})` : functionName);
    const description = new ProtoWriter();
    description.number(1, id);
    description.number(2, name);
    description.number(3, name);
    description.number(4, this.#text(url.replace(/^file:\/\//, '')));
    description.number(5, line);
    this.#out.message(PROFILE.function, description);
    const lines = new ProtoWriter();
    lines.number(1, id);
    lines.number(2, line);
    const place = new ProtoWriter();
    place.number(1, id);
    place.message(4, lines);
    this.#out.message(PROFILE.location, place);
    return id;
  }

  #text(text: string): number {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const id = this.#texts.size;
    this.#texts.set(text, id);
    return id;
  }
}

function fileName(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}
