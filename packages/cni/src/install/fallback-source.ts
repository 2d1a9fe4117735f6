// The plugin's fallback as it is shipped: this very runtime, and the whole plugin (plugin/full).
import { resolve } from 'node:path';
import type { FallbackSource } from './install-options.ts';
import { programFiles } from './program-files.ts';

/** @throws CniError cni.config */
export function fallbackSource(): FallbackSource {
  const entry = resolve(import.meta.dirname, '..', 'plugin', 'full', 'main.ts');
  return { runtime: process.execPath, files: programFiles(entry) };
}
