// Which programs of others are there to test against.
import { accessSync } from 'node:fs';
import { join } from 'node:path';

/** Where distributions put the programs. */
const DIRECTORIES = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** What a test says that must skip for want of a program, or false. */
export function missing(...programs: readonly string[]): string | false {
  const absent = programs.filter(program => !DIRECTORIES.some(directory => isThere(join(directory, program))));
  return absent.length > 0 && `not installed: ${absent.join(', ')}`;
}

function isThere(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
