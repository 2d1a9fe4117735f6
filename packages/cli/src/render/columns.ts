// Text in columns and in lines of bounded width. Names come from objects that others write, so control characters never
// reach the terminal.

// Control and format characters (colours, cursor movement, writing direction), and the two line separators.
const CONTROL = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

/** One line, safe to print; `–` for nothing. */
export function cell(text: string): string {
  const clean = text.replace(CONTROL, '?');
  return clean === '' ? '–' : clean;
}

/** A header and rows, left-aligned, two blanks apart; the last column is as long as it is. */
export function columns(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows.map(row => row.map(cell))];
  const widths = header.map((_, index) => Math.max(...lines.map(line => line[index]?.length ?? 0)));
  return lines
    .map(line =>
      line
        .map((text, index) => text.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .map(line => `${line}\n`)
    .join('');
}

/** Breaks at blanks so that no line is longer than `width`, except for single words that are. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}
