// Warnings that strangers can cause as often as they like: some at once, then one a second, with the number of those left out.
import type { Fields, Log } from '@ambit/log';
import { TokenBucket } from '../token-bucket.ts';

const PER_SECOND = 1;
const BURST = 20;

export class BoundedLog {
  readonly #log: Log;
  readonly #bucket: TokenBucket;
  readonly #now: () => number;
  #leftOut = 0;

  constructor(log: Log, now: () => number) {
    this.#log = log;
    this.#now = now;
    this.#bucket = new TokenBucket(PER_SECOND, BURST, now());
  }

  warn(message: string, fields: Fields): void {
    if (this.#bucket.take(this.#now()) === undefined) {
      this.#leftOut++;
      return;
    }
    this.#log.warn(message, this.#leftOut === 0 ? fields : { ...fields, leftOut: this.#leftOut });
    this.#leftOut = 0;
  }
}
