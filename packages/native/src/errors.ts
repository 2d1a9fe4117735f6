// The two ways a call into this package fails: the kernel said no (SysError), or the caller broke a rule of
// this package (NativeError). Both carry a stable code; neither is ever a memory fault.
import { constants } from 'node:os';

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, value]) => [value, name]),
);

/** The kernel's name of an errno (`ECONNREFUSED`), or `errno N` when Node does not know it. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/** A system call failed. `call` is the C function, `errno` the positive number, `code` its name. */
export class SysError extends Error {
  readonly call: string;
  readonly errno: number;
  readonly code: string;

  constructor(call: string, errno: number, detail = '') {
    super(`${call} failed: ${errnoName(errno)}${detail === '' ? '' : ` (${detail})`}`);
    this.name = 'SysError';
    this.call = call;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

export type NativeErrorCode =
  | 'native.bounds' // an offset or length outside its slab
  | 'native.closed' // use of a slab, fd or session after close
  | 'native.argument' // a value the callee cannot mean (bad address text, port, count)
  | 'native.unsupported' // this kernel, processor or Node build lacks what is needed
  | 'native.unavailable' // a library of the system is not installed; the message names the package
  | 'native.nftables' // nft refused a program; the message is nft's own
  | 'native.netlink'; // the kernel's answer was larger, longer or other than netlink allows

/** The caller broke a rule, or (the last three codes) the system lacks, refuses or answers what no errno can say. */
export class NativeError extends Error {
  readonly code: NativeErrorCode;

  constructor(code: NativeErrorCode, message: string) {
    super(message);
    this.name = 'NativeError';
    this.code = code;
  }
}
