// Ownership of one file descriptor. A closed Fd can never be used again, so a number that the kernel has meanwhile
// given to another connection is out of reach.
import { NativeError } from './errors.ts';
import { bind } from './library.ts';

const c_close = bind<(fd: number) => number>('int close(int)');

let openCount = 0;

/** File descriptors this thread owns through `Fd`; for leak tests and the admin page. */
export function ownedFdCount(): number {
  return openCount;
}

export class Fd {
  #number: number;

  /** Takes ownership of `number`, which must be an open descriptor that nobody else will close. */
  constructor(number: number) {
    if (!Number.isInteger(number) || number < 0) throw new NativeError('native.argument', `file descriptor ${number}`);
    this.#number = number;
    openCount++;
  }

  /** The kernel's number. @throws native.closed */
  get number(): number {
    if (this.#number < 0) throw new NativeError('native.closed', 'file descriptor used after close');
    return this.#number;
  }

  get isOpen(): boolean {
    return this.#number >= 0;
  }

  /** Closes once; later calls do nothing. */
  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    openCount--;
    c_close(number);
  }

  /** Gives the number away (to another worker, say) without closing it; this object is closed afterwards. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    openCount--;
    return number;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
