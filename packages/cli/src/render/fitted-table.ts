// A table that fits the terminal: the least important columns go first, then long names are cut. Numbers stand right.
import { cell } from './columns.ts';

export interface Column<Row> {
  readonly title: string;
  readonly text: (row: Row) => string;
  readonly isNumber?: boolean;
  /** The higher, the earlier it is left out; without one it is always shown. */
  readonly drop?: number;
  /** May be cut, down to this many characters. */
  readonly least?: number;
  readonly paint?: (row: Row, text: string) => string;
}

const GAP = '  ';

/** Lines with header, none longer than `width` unless its columns cannot be cut further. */
export function fittedTable<Row>(all: readonly Column<Row>[], rows: readonly Row[], width: number): readonly string[] {
  const measured = all.map(column => {
    const texts = rows.map(row => cell(column.text(row)));
    return { column, texts, width: Math.max(column.title.length, ...texts.map(text => text.length)) };
  });
  let shown = measured;
  while (widthOf(shown) > width) {
    const worst = shown.reduce((max, { column }) => Math.max(max, column.drop ?? 0), 0);
    if (worst === 0) break;
    shown = shown.filter(({ column }) => (column.drop ?? 0) < worst);
  }
  for (let over = widthOf(shown) - width; over > 0; over--) {
    const longest = shown
      .filter(each => each.column.least !== undefined && each.width > each.column.least)
      .toSorted((a, b) => b.width - a.width)[0];
    if (longest === undefined) break;
    longest.width--;
  }
  const line = (textOf: (each: (typeof shown)[number]) => string): string => shown.map(textOf).join(GAP).trimEnd();
  return [
    line(each => pad(each.column.title, each.width, each.column.isNumber)),
    ...rows.map((row, index) =>
      line(each => {
        const text = pad(cut(each.texts[index] ?? '', each.width), each.width, each.column.isNumber);
        return each.column.paint?.(row, text) ?? text;
      }),
    ),
  ];
}

/** The text, or its beginning and an ellipsis. */
export function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}

function pad(text: string, width: number, isNumber = false): string {
  return isNumber ? text.padStart(width) : text.padEnd(width);
}

function widthOf(columns: readonly { readonly width: number }[]): number {
  return columns.reduce((sum, { width }) => sum + width + GAP.length, -GAP.length);
}
