// Makes a metric label of a request's path: what looks like an identifier becomes `{id}`, so that a million orders are one series.
// Pure and bounded; it guesses by form alone, so it may leave a short word-like identifier as it is: who counts by templates
// needs a cap all the same.

/** Segments that are kept; what follows them becomes `/...`. */
export const MAX_TEMPLATE_SEGMENTS = 8;
/** Longest segment that can be a word. */
const MAX_WORD = 40;

/**
 * The template of a path without query, such as `/orders/{id}/items`. Idempotent. Per segment, `{id}` stands for:
 * - numbers, also signed, with dots or commas (`42`, `1.5`, `10,20`), and what has more digits than letters (`2024-05-01`, `v10023`)
 * - UUIDs, and 8 or more hexadecimal digits with at least one digit among them
 * - tokens: 16 or more characters that mix letters and digits, or upper and lower case within words (base64, ULID, JWT)
 * - anything longer than 40 characters, percent-encoded, or with characters that no word has
 *
 * Empty segments are dropped; beyond 8 segments the rest is `...`. A path that does not begin with `/` is `*` or other.
 */
export function pathTemplate(path: string): string {
  if (path === '*' || path === '') return path;
  if (path.charCodeAt(0) !== 0x2f) return 'other';
  let template = '';
  let segments = 0;
  let start = 1;
  while (start <= path.length) {
    const slash = path.indexOf('/', start);
    const end = slash < 0 ? path.length : slash;
    if (end > start) {
      if (segments === MAX_TEMPLATE_SEGMENTS) return `${template}/...`;
      template += `/${isIdentifier(path, start, end) ? '{id}' : path.slice(start, end)}`;
      segments++;
    }
    start = end + 1;
  }
  return template === '' ? '/' : template;
}

function isIdentifier(path: string, start: number, end: number): boolean {
  const length = end - start;
  if (length > MAX_WORD) return true;
  // Templates of templates: our own marks, and those of whoever writes routes into paths.
  if (path.startsWith('{id}', start) && length === 4) return false;
  let digits = 0;
  let hex = 0;
  let lower = 0;
  let upper = 0;
  // Changes from lower to upper case behind the first letter: `getUserById` has some, base64 has many.
  let humps = 0;
  let previous = 0;
  for (let i = start; i < end; i++) {
    const code = path.charCodeAt(i);
    if (code >= 0x30 && code <= 0x39) {
      digits++;
      hex++;
    } else if (code >= 0x61 && code <= 0x7a) {
      lower++;
      if (code <= 0x66) hex++;
    } else if (code >= 0x41 && code <= 0x5a) {
      upper++;
      if (code <= 0x46) hex++;
      if (previous >= 0x61 && previous <= 0x7a) humps++;
    } else if (!isMark(code)) {
      return true;
    }
    previous = code;
  }
  const letters = lower + upper;
  if (digits > 0 && digits >= letters && !isVersion(path, start, end)) return true;
  const hexLike = hex + countHyphens(path, start, end);
  if (hexLike === length && hex >= 8 && digits > 0) return true;
  if (length < 16) return false;
  // Base32 and the like are all upper case; words are not, and have fewer digits.
  if (digits > 0 && (lower === 0 || digits * 8 >= length)) return true;
  return humps * 4 >= length - 4;
}

// Characters of words besides letters and digits: those of file names, of gRPC methods and of OData.
function isMark(code: number): boolean {
  switch (code) {
    case 0x2d: // -
    case 0x2e: // .
    case 0x5f: // _
    case 0x7e: // ~
    case 0x3a: // :
    case 0x2a: // *
    case 0x2b: // +
    case 0x2c: // ,
      return true;
    default:
      return false;
  }
}

// `v1`, `v2.1`, `h2`, `s3`: names with a small number, which tell interfaces apart and not things.
function isVersion(path: string, start: number, end: number): boolean {
  const first = path.charCodeAt(start) | 0x20;
  if (first < 0x61 || first > 0x7a || end - start > 4) return false;
  for (let i = start + 1; i < end; i++) {
    const code = path.charCodeAt(i);
    if ((code < 0x30 || code > 0x39) && code !== 0x2e) return false;
  }
  return true;
}

function countHyphens(path: string, start: number, end: number): number {
  let count = 0;
  for (let i = start; i < end; i++) if (path.charCodeAt(i) === 0x2d) count++;
  return count;
}
