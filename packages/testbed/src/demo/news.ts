// What changed since the last look, as sentences: for logs and scripts, which have no table that is redrawn.
import type { DemoRow, DemoState } from './verdict.ts';

export class News {
  readonly #outcomes = new Map<string, string>();
  #problems: readonly string[] = [];

  /**
   * Sentences about edges whose connections go another way than at the last look, and about objects that are wrong since
   * then, or no more. The first look at an edge is no news.
   */
  take({ rows, control }: Pick<DemoState, 'rows' | 'control'>): string[] {
    const news = rows.flatMap(row => this.#ofRow(row));
    for (const text of control.problems) if (!this.#problems.includes(text)) news.push(`objects: ${text}`);
    if (control.problems.length === 0 && this.#problems.length > 0) news.push('objects: all of them can be read again');
    this.#problems = control.problems;
    return news;
  }

  #ofRow({ edge }: DemoRow): string[] {
    const pair = `${edge.source} to ${edge.destination}`;
    const before = this.#outcomes.get(pair);
    const now = outcome(edge);
    this.#outcomes.set(pair, now);
    return before === undefined || before === now ? [] : [`${pair}: ${now}, was ${before}`];
  }
}

function outcome({ now, policy }: DemoRow['edge']): string {
  if (now === 'denied' && policy !== undefined) return `denied by ${policy}`;
  return now ?? 'not seen';
}
