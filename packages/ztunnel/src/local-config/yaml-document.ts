// The local configuration's YAML: one document, bounded in size and aliases, with the four string-match tags, and a
// way back from a path in the data to line and column.
import {
  type CollectionTag,
  type Document,
  isMap,
  isNode,
  isSeq,
  LineCounter,
  parseDocument,
  type ScalarTag,
} from 'yaml';

/** Beyond any hand-written mesh; a test mesh of 100 000 workloads needs about 40 MiB. */
export const MAX_FILE_BYTES = 64 << 20;
const MAX_ALIASES = 100;

export interface Position {
  readonly line: number;
  readonly column: number;
}

export type ParsedYaml =
  | { readonly kind: 'value'; readonly value: unknown; readonly locate: (path: readonly PropertyKey[]) => Position }
  | { readonly kind: 'error'; readonly message: string; readonly at: Position };

const START: Position = { line: 1, column: 1 };

/** Never throws. */
export function parseYaml(text: string): ParsedYaml {
  const lines = new LineCounter();
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      customTags: TAGS,
      stringKeys: false,
    });
    // A warning here is an unresolved tag: `!Exakt foo` would otherwise become the plain text `foo`.
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) return { kind: 'error', message: problem.message, at: position(problem.pos[0]) };
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    return { kind: 'value', value, locate: path => position(offsetOf(document, path)) };
  } catch (thrown) {
    // toJS throws for too many aliases, and the parser may run out of stack on absurd nesting.
    return { kind: 'error', message: thrown instanceof Error ? thrown.message : String(thrown), at: START };
  }
}

const TAGS: (ScalarTag | CollectionTag)[] = [
  { tag: '!Exact', resolve: (text: string) => ({ Exact: text }) },
  { tag: '!Prefix', resolve: (text: string) => ({ Prefix: text }) },
  { tag: '!Suffix', resolve: (text: string) => ({ Suffix: text }) },
  { tag: '!Presence', resolve: () => ({ Presence: [] }) },
  { tag: '!Presence', collection: 'seq', resolve: () => ({ Presence: [] }) },
];

/** The offset of the deepest node on `path` that exists; of the key rather than the value where there is one. */
function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(item => String(item.key) === String(step));
      if (pair === undefined) return offset;
      offset = startOf(pair.key) ?? startOf(pair.value) ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof step === 'number') {
      node = node.items[step];
      offset = startOf(node) ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}
