// File descriptors of the process as a resource: its limit and how many are in use. A proxy needs two a connection.
import { readdirSync } from 'node:fs';
import { SysError } from './errors.ts';
import { RLIMIT_NOFILE } from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';

type LimitCall = (resource: number, limit: number) => number;
const c_getrlimit = bind<LimitCall>('int getrlimit(int resource, uintptr_t limit)');
const c_setrlimit = bind<LimitCall>('int setrlimit(int resource, uintptr_t limit)');

const LIMIT_BYTES = 16;
const scratch = Slab.permanent(LIMIT_BYTES);
const UNLIMITED = 0xffff_ffff_ffff_ffffn;

export interface FileLimit {
  /** What applies now; `Infinity` for none. */
  readonly soft: number;
  /** How far `soft` may be raised. */
  readonly hard: number;
}

/** The limit on open descriptors (RLIMIT_NOFILE). @throws SysError */
export function openFileLimit(): FileLimit {
  if (c_getrlimit(RLIMIT_NOFILE, scratch.address(0, LIMIT_BYTES)) < 0) throw new SysError('getrlimit', lastErrno());
  return { soft: readLimit(0), hard: readLimit(8) };
}

/** Raises the soft limit to the hard one and returns the limit that applies then. @throws SysError */
export function setOpenFileLimitToMax(): FileLimit {
  openFileLimit();
  scratch.bytes.copyWithin(0, 8, LIMIT_BYTES);
  if (c_setrlimit(RLIMIT_NOFILE, scratch.address(0, LIMIT_BYTES)) < 0) throw new SysError('setrlimit', lastErrno());
  return openFileLimit();
}

/** Open descriptors of the whole process, Node's own included. */
export function openFdCount(): number {
  // One of those listed is the directory being read.
  return readdirSync('/proc/self/fd').length - 1;
}

function readLimit(at: number): number {
  const value = scratch.bytes.readBigUInt64LE(at);
  return value === UNLIMITED ? Infinity : Number(value);
}
