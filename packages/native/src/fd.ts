// Ownership of one file descriptor. A closed Fd can never be used again, so a number that the kernel has meanwhile
// given to another connection is out of reach.
import { NativeError, SysError } from './errors.ts';
import { F_DUPFD_CLOEXEC } from './layouts.ts';
import { bind, lastErrno } from './library.ts';

const c_close = bind<(fd: number) => number>('int close(int)');
const c_fcntl = bind<(fd: number, command: number, argument: number) => number>('int fcntl(int, int, int)');

/** Descriptors are C ints; a larger number would be cut down to somebody else's. */
const MAX_FD = 0x7fffffff;

let openCount = 0;
/** One bit a descriptor number: which descriptors this thread owns, readable by the thread that outlives it. */
let register: Uint8Array | undefined;

/**
 * From now on notes in `shared` (one bit a number) which descriptors this thread owns. Descriptors belong to the process
 * and stay open when a worker thread dies; whoever keeps the buffer can then close them with `closeRegistered`. Numbers
 * beyond the buffer are not noted. Call it before the thread opens anything.
 */
export function registerFds(shared: SharedArrayBuffer): void {
  register = new Uint8Array(shared);
}

/** Closes everything a dead thread had noted in `shared`, and returns how many there were. */
export function closeRegistered(shared: SharedArrayBuffer): number {
  const bits = new Uint8Array(shared);
  let closed = 0;
  for (let index = 0; index < bits.length; index++) {
    for (let bit = 0; bit < 8; bit++) {
      if (((bits[index] ?? 0) & (1 << bit)) === 0) continue;
      c_close(index * 8 + bit);
      closed++;
    }
    bits[index] = 0;
  }
  return closed;
}

function note(number: number): void {
  const index = number >> 3;
  if (register !== undefined && index < register.length) register[index] = (register[index] ?? 0) | (1 << (number & 7));
}

function unnote(number: number): void {
  const index = number >> 3;
  if (register !== undefined && index < register.length)
    register[index] = (register[index] ?? 0) & ~(1 << (number & 7));
}

/** File descriptors this thread owns through `Fd`; for leak tests and the admin page. */
export function ownedFdCount(): number {
  return openCount;
}

export class Fd {
  #number: number;

  /** Takes ownership of `number`, which must be an open descriptor that nobody else will close. */
  constructor(number: number) {
    checkNumber(number);
    this.#number = number;
    openCount++;
    note(number);
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
    // Before the close: afterwards the number may be another thread's.
    unnote(number);
    c_close(number);
  }

  /** Gives the number away (to another worker, say) without closing it; this object is closed afterwards. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    openCount--;
    unnote(number);
    return number;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A second descriptor (close-on-exec) of the same open file. @throws SysError (EMFILE), native.closed */
export function duplicateFd(fd: Fd): Fd {
  return duplicateNumber(fd.number);
}

/**
 * A descriptor of one's own for a number that another thread owns and lent; that thread must not close it meanwhile.
 * @throws native.argument, SysError (EBADF when it is not open)
 */
export function duplicateNumber(number: number): Fd {
  checkNumber(number);
  const n = c_fcntl(number, F_DUPFD_CLOEXEC, 0);
  if (n < 0) throw new SysError('fcntl', lastErrno(), 'F_DUPFD_CLOEXEC');
  return new Fd(n);
}

function checkNumber(number: number): void {
  if (!Number.isInteger(number) || number < 0 || number > MAX_FD) {
    throw new NativeError('native.argument', `file descriptor ${number}`);
  }
}
