// The only file that imports the FFI library. It binds C functions of libc, of the OpenSSL inside the Node binary and of
// libraries loaded by name, and reads errno without a call. Raw addresses exist only in this package: `pointerTo` is
// internal.
import koffi from 'koffi';

const self = koffi.load(null);

/** Pointers travel as plain numbers: a BigInt costs four times as much per call, and user addresses fit 47 bits. */
export const POINTER = 'uintptr_t';

/** Binds a C function by prototype; the names are those of the C headers, with every pointer written `uintptr_t`. */
// biome-ignore format: one signature
// oxlint-disable-next-line typescript/no-explicit-any -- the FFI library types calls dynamically; each caller narrows at once
export function bind<F extends (...args: any[]) => unknown>(prototype: string): F {
  return self.func(prototype) as unknown as F;
}

/** Binds functions of another shared library, found as dlopen(3) finds it. @throws Error in the words of dlopen */
// biome-ignore format: one signature
// oxlint-disable-next-line typescript/no-explicit-any -- as above
export function bindFrom(library: string): <F extends (...args: any[]) => unknown>(prototype: string) => F {
  const loaded = koffi.load(library);
  return prototype => loaded.func(prototype) as never;
}

/** Address of the first byte of an unpooled buffer. The buffer must stay referenced while the address is in use. */
export function pointerTo(bytes: Uint8Array): number {
  return Number(koffi.address(bytes));
}

/** Registers a JavaScript function as a C callback for the life of the thread. */
// oxlint-disable-next-line typescript/no-explicit-any -- as above: the signature is in the prototype text
export function callback(prototype: string, run: (...args: any[]) => unknown): unknown {
  return koffi.register(run, koffi.pointer(koffi.proto(prototype)));
}

const errnoLocation = self.func('void *__errno_location()') as () => unknown;
// errno is thread-local and its place never moves, so one mapping per thread (this module is loaded per worker) does.
const errnoCell = new Int32Array(koffi.view(errnoLocation(), 4));

/** errno of the last failed libc call on this thread. Read it in the very next statement. */
export function lastErrno(): number {
  return errnoCell[0] ?? 0;
}

/** A watch of one descriptor by Node's event loop. */
export interface ReadableWatch {
  /** Calls `run` in the event loop for as long as the descriptor is readable; keeps the loop alive until `stop`. */
  start(run: () => void): void;
  stop(): void;
  /** Must come before the descriptor is closed. */
  close(): void;
}

/** Has libuv watch `fd`. It borrows the descriptor, and makes it non-blocking. */
export function watchReadable(fd: number): ReadableWatch {
  const handle = koffi.node.poll(fd, () => undefined);
  handle.stop();
  return handle;
}
