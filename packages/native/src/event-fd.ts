// A wake-up between threads: one side notifies, the reactor of the other sees it readable (eventfd(2)). Descriptors
// are process-wide, so only a number travels to the other thread; each side owns its own duplicate of it.
import { readlinkSync } from 'node:fs';
import { NativeError, SysError } from './errors.ts';
import { duplicateNumber, Fd } from './fd.ts';
import { EFD_CLOEXEC, EFD_NONBLOCK } from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';

const c_eventfd = bind<(initial: number, flags: number) => number>('int eventfd(unsigned int initial, int flags)');
const c_read = bind<(fd: number, address: number, length: number) => number>(
  'int read(int fd, uintptr_t buffer, size_t length)',
);
const c_write = bind<(fd: number, address: number, length: number) => number>(
  'int write(int fd, uintptr_t buffer, size_t length)',
);

const COUNTER_BYTES = 8;
const scratch = Slab.permanent(2 * COUNTER_BYTES);
scratch.bytes.writeUInt32LE(1, 0);
const oneAddress = scratch.address(0, COUNTER_BYTES);
const sinkAddress = scratch.address(COUNTER_BYTES, COUNTER_BYTES);

export class EventFd {
  readonly fd: Fd;

  private constructor(fd: Fd) {
    this.fd = fd;
  }

  /** A fresh, silent one. @throws SysError */
  static create(): EventFd {
    const n = c_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (n < 0) throw new SysError('eventfd', lastErrno());
    return new EventFd(new Fd(n));
  }

  /**
   * The same eventfd on another thread: `number` is the `fd.number` of the thread that made it, which goes on owning it
   * and must not close it before this call; the new object owns a duplicate.
   * @throws native.argument when the number is not an eventfd, SysError
   */
  static adopt(number: number): EventFd {
    const fd = duplicateNumber(number);
    if (readlinkSync(`/proc/self/fd/${fd.number}`) !== 'anon_inode:[eventfd]') {
      fd.close();
      throw new NativeError('native.argument', `descriptor ${number} is not an eventfd`);
    }
    return new EventFd(fd);
  }

  /** Makes the other side readable. Many notifications before one drain are one. @throws native.closed, SysError */
  notify(): void {
    const n = c_write(this.fd.number, oneAddress, COUNTER_BYTES);
    // Nobody notifies 2^64 times: an error here is a lost wake-up, hence a bug worth an exception.
    if (n < 0) throw new SysError('write', lastErrno(), 'eventfd');
  }

  /** Takes all notifications; true when there was at least one. Drain before looking at what was announced. @throws native.closed */
  drain(): boolean {
    return c_read(this.fd.number, sinkAddress, COUNTER_BYTES) === COUNTER_BYTES;
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
