// Labels as text of the exposition formats: `reporter="source",source_workload="web"`. Made once for
// each set and written at each scrape. Values are bounded and always valid UTF-8; the three characters that the formats give
// a meaning are escaped (OpenMetrics 1.0, "ABNF": escaped-string).

/** Longer values are cut: they come from peers and control planes, and each costs memory for as long as it is shown. */
export const MAX_LABEL_CHARACTERS = 256;

/** Absent and empty are the same to the formats' readers: such a label is left out of the set. */
export type LabelValue = string | undefined;

/** Between the values of a key. No clean value has it, so that keys of different values differ. */
const SEPARATOR = '\0';
const SPECIAL = /["\\\n]/;

/** Bounded, without NUL, and encodable: a cut, or a peer, may leave half a surrogate pair. */
export function cleanLabel(value: string): string {
  const text = value.length > MAX_LABEL_CHARACTERS ? value.slice(0, MAX_LABEL_CHARACTERS) : value;
  return text.toWellFormed().replaceAll(SEPARATOR, '\ufffd');
}

/** The key of a set of values. Equal keys are equal sets as long as the values of one of them are clean. */
export function labelKey(values: readonly LabelValue[]): string {
  return values.join(SEPARATOR);
}

/** The set as text; values must be clean. */
export function writeLabels(names: readonly string[], values: readonly LabelValue[]): string {
  const parts: string[] = [];
  for (const [index, name] of names.entries()) {
    const value = values[index];
    if (value !== undefined && value !== '') parts.push(`${name}="${escapeLabel(value)}"`);
  }
  return parts.join(',');
}

function escapeLabel(value: string): string {
  if (!SPECIAL.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

const LABEL = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)",?/gs;
const ESCAPE = /\\(.)/gs;

/** Names and values of a text of `writeLabels`, for those who need them apart (OTLP). */
export function labelPairs(text: string): readonly (readonly [name: string, value: string])[] {
  return Array.from(text.matchAll(LABEL), ([, name = '', value = '']) => {
    return [name, value.replace(ESCAPE, (_, character: string) => (character === 'n' ? '\n' : character))] as const;
  });
}
