// A program of ours as a handful of plain JavaScript files that run where there is neither this repository nor its packages:
// the modules that an entry needs, types stripped, in one directory. Works on the shape that our own sources have (imports at
// the start of a line, names in braces, one `index.ts` a room) and refuses anything else rather than guess.
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CniError } from '../errors.ts';

/** packages/ of the repository. */
const PACKAGES = resolve(import.meta.dirname, '..', '..', '..');
/** `import {…} from '…';`, `import * as … from`, `import '…'`, `export {…} from '…';`, over several lines, too. */
const STATEMENT = /^(import|export)\s*(\{[^}]*\}|\* as \w+|\*)?\s*(?:from\s*)?'([^']+)';?/gm;

type Read = (path: string) => string;

const readSource: Read = path => readFileSync(path, 'utf8');

/** Text by file name; the entry's comes first. @throws CniError cni.config when a module cannot be carried along */
export function programFiles(entry: string, read: Read = readSource): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const waiting = [entry];
  for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
    const name = fileName(path);
    if (files.has(name)) continue;
    const { text, needs } = carry(path, read);
    files.set(name, text);
    waiting.push(...needs);
  }
  return files;
}

function carry(path: string, read: Read): { readonly text: string; readonly needs: readonly string[] } {
  const needs: string[] = [];
  const source = stripTypeScriptTypes(read(path));
  if (/\bimport\(/.test(source)) throw refused(path, 'it imports while it runs');
  const text = source.replaceAll(STATEMENT, (all, keyword: string, what: string | undefined, from: string) => {
    if (from.startsWith('node:')) return all;
    if (from.startsWith('.')) {
      const target = resolve(dirname(path), from);
      needs.push(target);
      return statement(keyword, what, target);
    }
    const names = what?.startsWith('{') === true ? namesOf(what) : undefined;
    if (!from.startsWith('@ambit/') || names === undefined) throw refused(path, `it needs ${from}`);
    // Straight to where each name is made: a room's index would bring all of the room.
    return names
      .map(name => {
        const target = definedIn(from, name, read);
        needs.push(target);
        return statement(keyword, `{ ${name} }`, target);
      })
      .join(' ');
  });
  return { text, needs };
}

function statement(keyword: string, what: string | undefined, target: string): string {
  return `${keyword} ${what === undefined ? '' : `${what} from `}'./${fileName(target)}';`;
}

function definedIn(room: string, name: string, read: Read): string {
  const index = fileURLToPath(import.meta.resolve(room));
  const imported = name.split(/\s+as\s+/)[0] ?? name;
  for (const [, , what, from = ''] of stripTypeScriptTypes(read(index)).matchAll(STATEMENT)) {
    if (what !== undefined && namesOf(what).includes(imported)) return resolve(dirname(index), from);
  }
  throw refused(index, `it does not export ${imported} from another file`);
}

function namesOf(braces: string): readonly string[] {
  const names = braces.replaceAll(/[{}]/g, '').split(',');
  return names.map(name => name.trim()).filter(name => name !== '');
}

/** Unique, flat: `cni-plugin-frame.mjs`. */
function fileName(path: string): string {
  const within = relative(PACKAGES, path).replace(`${sep}src${sep}`, sep);
  if (within.startsWith('..') || !within.endsWith('.ts')) throw refused(path, 'it is none of our modules');
  return within.replaceAll(sep, '-').replace(/\.ts$/, '.mjs');
}

function refused(path: string, why: string): CniError {
  return new CniError('cni.config', `${path} cannot be carried to a host: ${why}`);
}
