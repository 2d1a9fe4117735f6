// Where the demo draws: a terminal is redrawn in place and takes keys; anything else gets plain lines and the final
// table. Progress and errors go to standard error when standard output carries a document.
import { isatty } from 'node:tty';
import { paint, type TableStyle } from './table.ts';

export type Key = 'quit' | 'json';

const HIDE_CURSOR = '\u001B[?25l';
const SHOW_CURSOR = '\u001B[?25h';
const CLEAR_LINE = '\u001B[2K';
const CLEAR_BELOW = '\u001B[J';
const DEFAULT_WIDTH = 120;
const CTRL_C = '\u0003';

export class Screen {
  readonly isLive: boolean;
  readonly #out: NodeJS.WriteStream;
  readonly #startMs = performance.now();
  #drawn = 0;
  #hasPending = false;
  #onKey: ((key: Key) => void) | undefined;
  readonly #take = (text: string): void => {
    for (const character of text) {
      if (character === 'q' || character === CTRL_C) this.#onKey?.('quit');
      if (character === 'j') this.#onKey?.('json');
    }
  };

  /** `document`: standard output belongs to a document, people are told on standard error. */
  constructor(document: boolean) {
    this.#out = document ? process.stderr : process.stdout;
    this.isLive = !document && isatty(1) && process.env['TERM'] !== 'dumb';
  }

  get style(): TableStyle {
    const isTerminal = this.#out.isTTY;
    return {
      width: isTerminal ? this.#out.columns : DEFAULT_WIDTH,
      colour: isTerminal && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb',
    };
  }

  line(text: string): void {
    this.#out.write(`${text}\n`);
  }

  /** Says what is being done; `done` replaces it. Nothing without a terminal. */
  doing(what: string): void {
    if (!this.#out.isTTY) return;
    this.#out.write(`\r${CLEAR_LINE}${paint(`  ....   ${what}`.slice(0, this.style.width - 1), 'dim', this.style)}`);
    this.#hasPending = true;
  }

  done(what: string): void {
    const seconds = `${((performance.now() - this.#startMs) / 1000).toFixed(1)} s`;
    const width = Math.min(this.style.width, 80) - 9 - 8;
    if (this.#hasPending) this.#out.write(`\r${CLEAR_LINE}`);
    this.#hasPending = false;
    const shown = what.length > width ? `${what.slice(0, width - 1)}…` : what.padEnd(width);
    this.line(`  ${paint('ready', 'good', this.style)}  ${shown}${seconds.padStart(8)}`);
  }

  /** Listens to keys, on a terminal. */
  onKey(listener: (key: Key) => void): void {
    this.#onKey = listener;
    if (!this.isLive || !process.stdin.isTTY) return;
    process.stdin.setRawMode(true);
    process.stdin.setEncoding('utf8');
    process.stdin.on('data', this.#take);
    process.stdin.resume();
  }

  /** Draws in place of what was drawn before; on a terminal only. */
  draw(lines: readonly string[]): void {
    if (!this.isLive) return;
    // What does not fit cannot be redrawn: the top of it would have scrolled away.
    const shown = lines.slice(0, Math.max(1, this.#out.rows - 1));
    const up = this.#drawn > 0 ? `\u001B[${this.#drawn}A` : '';
    const body = shown.map(text => `\r${CLEAR_LINE}${text}\r\n`).join('');
    this.#out.write(`${HIDE_CURSOR}${up}${body}${CLEAR_BELOW}`);
    this.#drawn = shown.length;
  }

  /** Gives the terminal back. Closing twice is fine. */
  close(): void {
    if (this.#hasPending) this.#out.write(`\r${CLEAR_LINE}`);
    this.#hasPending = false;
    if (this.isLive) this.#out.write(SHOW_CURSOR);
    if (!this.isLive || !process.stdin.isTTY) return;
    process.stdin.off('data', this.#take);
    process.stdin.setRawMode(false);
    process.stdin.pause();
  }
}
