// Which file of a CNI directory the container runtime uses: the first by name that is valid. A configured name stands for its
// twin too (`x.conf` for `x.conflist` and the other way round), since putting us into a `.conf` makes it a `.conflist`.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readIfThere } from './atomic-file.ts';
import { type Chain, readChain } from './chain-text.ts';

export interface ChainFile {
  /** Without the directory. */
  readonly name: string;
  readonly text: string;
  /** Permission bits. */
  readonly mode: number;
  readonly chain: Chain;
}

/** Larger files are no network configurations. */
const MAX_BYTES = 1024 * 1024;

/** Every valid file, in the order of the runtime. A directory that is missing has none. @throws Error of node:fs */
export function chainFiles(directory: string): readonly ChainFile[] {
  const names = readIfThere(() => readdirSync(directory)) ?? [];
  // By bytes, as Go sorts: the order of a language would put 1.conf elsewhere.
  const sorted = names
    .filter(name => /\.conf(list)?$/.test(name))
    .sort((a, b) => Buffer.from(a).compare(Buffer.from(b)));
  return sorted.flatMap(name => readChainFile(directory, name) ?? []);
}

/** undefined when it is missing or not valid. */
export function readChainFile(directory: string, name: string): ChainFile | undefined {
  const path = join(directory, name);
  const status = readIfThere(() => statSync(path));
  if (status === undefined || !status.isFile() || status.size > MAX_BYTES) return undefined;
  const text = readIfThere(() => readFileSync(path, 'utf8'));
  const chain = text === undefined ? undefined : readChain(text, name.endsWith('.conflist'));
  if (text === undefined || chain === undefined) return undefined;
  return { name, text, mode: status.mode & 0o777, chain };
}

/** `configured`, its twin, or without it the first. */
export function chooseChain(files: readonly ChainFile[], configured: string | undefined): ChainFile | undefined {
  if (configured === undefined) return files[0];
  return files.find(({ name }) => name === configured) ?? files.find(({ name }) => name === twinOf(configured));
}

export function twinOf(name: string): string {
  return name.endsWith('.conflist') ? name.replace(/list$/, '') : name.replace(/\.conf$/, '.conflist');
}
