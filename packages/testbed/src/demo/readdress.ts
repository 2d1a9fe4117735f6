// Objects at other addresses: where the demo has no networks of its own, its pods are on loopback. Only files that name
// such an address are copied; the others are read where they are, so that editing them has its effect all the same.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const OBJECT_FILE = /\.(ya?ml|json)$/;
/** What an address cannot be a part of. */
const EDGE = '[0-9a-fA-F.:]';

/** @returns the paths to read instead of `directory`. @throws system errors */
export async function readdressObjects(
  directory: string,
  replacements: ReadonlyMap<string, string>,
  copies: string,
): Promise<string[]> {
  await mkdir(copies, { recursive: true });
  const names = (await readdir(directory)).filter(name => OBJECT_FILE.test(name) && !name.startsWith('.')).toSorted();
  return Promise.all(
    names.map(async name => {
      const path = join(directory, name);
      const text = await readFile(path, 'utf8');
      const changed = readdress(text, replacements);
      if (changed === text) return path;
      await writeFile(join(copies, name), changed);
      return join(copies, name);
    }),
  );
}

/** Replaces whole addresses, in whatever syntax they stand. */
export function readdress(text: string, replacements: ReadonlyMap<string, string>): string {
  const alternatives = [...replacements.keys()].map(address => address.replaceAll('.', String.raw`\.`));
  const pattern = new RegExp(`(?<!${EDGE})(${alternatives.join('|')})(?!${EDGE})`, 'g');
  return text.replaceAll(pattern, found => replacements.get(found) ?? found);
}
