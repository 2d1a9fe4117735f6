// The plugin's fallback as it is shipped: this very runtime, and the whole plugin (plugin/full).
import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { errorText } from '@ambit/log';
import { CniError } from '../errors.ts';
import type { FallbackSource } from './install-options.ts';

const MAIN = resolve(import.meta.dirname, '..', 'plugin', 'full', 'main.ts');
const MAKER = resolve(import.meta.dirname, 'program-files-process.ts');
const TIMEOUT_MS = 30_000;
const MAX_BYTES = 16 * 1024 * 1024;

/** Takes a fifth of a second, during which nothing else runs. @throws CniError cni.config */
export function fallbackSource(): FallbackSource {
  let json: string;
  try {
    const args = ['--disable-warning=ExperimentalWarning', MAKER, MAIN];
    json = execFileSync(process.execPath, args, { encoding: 'utf8', timeout: TIMEOUT_MS, maxBuffer: MAX_BYTES });
  } catch (cause) {
    throw new CniError('cni.config', `the plugin's fallback cannot be put together: ${errorText(cause)}`, { cause });
  }
  return { runtime: process.execPath, files: new Map(JSON.parse(json) as [string, string][]) };
}
