// Path and interface names on their way into C, which ends a text at its first zero byte.
import { NativeError } from './errors.ts';
import { Slab } from './slab.ts';

/** PATH_MAX, with the terminating zero. */
const PATH_BYTES = 4096;
const scratch = Slab.permanent(PATH_BYTES);

/** The text's bytes, none of them zero. @throws native.argument */
export function nameBytes(name: string, maxBytes: number, what: string): Buffer {
  const bytes = Buffer.from(name, 'utf8');
  if (bytes.length === 0 || bytes.length > maxBytes || bytes.includes(0)) {
    const shown = JSON.stringify(name.slice(0, 128));
    throw new NativeError('native.argument', `${what} ${shown} must have 1..${maxBytes} bytes and no zero byte`);
  }
  return bytes;
}

/** Internal to this package: address of the zero-terminated path, good until the next call here. @throws native.argument */
export function pathAddress(path: string): number {
  const bytes = nameBytes(path, PATH_BYTES - 1, 'path');
  scratch.bytes.set(bytes, 0);
  scratch.bytes[bytes.length] = 0;
  return scratch.address(0, bytes.length + 1);
}
