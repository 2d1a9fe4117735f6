export { errnoName, NativeError, type NativeErrorCode, SysError } from './errors.ts';
export { Fd, ownedFdCount } from './fd.ts';
export { Slab } from './slab.ts';
