// Material in a directory on disk: `root-key.pem` (0600) is the whole truth, keys, certificates and rotation in one text;
// `root-cert.pem` (0644) is the trust bundle for others to read, made from it. Several processes may share the directory:
// changes happen under a lock file and only if what is stored is what the caller saw.
import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';
import {
  decodeMaterial,
  encodeMaterial,
  isSameMaterial,
  type Material,
  type MaterialStore,
  trustBundle,
} from './material.ts';
import { ensureStateDirectory, isMissing, readSecret, writeAtomically } from './state-files.ts';

/** The lock is held for a few writes; one this old was left behind by a crash. */
const STALE_LOCK_MS = 30_000;
const LOCK_PATIENCE_MS = 40_000;
const LOCK_POLL_MS = 20;

export class DirectoryStore implements MaterialStore {
  readonly name: string;
  readonly #directory: string;
  readonly #path: string;

  constructor(directory: string) {
    this.name = `directory ${directory}`;
    this.#directory = directory;
    this.#path = join(directory, 'root-key.pem');
  }

  async load(): Promise<Material | undefined> {
    await ensureStateDirectory(this.#directory);
    const material = await this.#read();
    if (material !== undefined) await this.#publish(material);
    return material;
  }

  async save(material: Material, previous: Material | undefined): Promise<boolean> {
    await ensureStateDirectory(this.#directory);
    const unlock = await this.#lock();
    try {
      if (!isSameMaterial(await this.#read(), previous)) return false;
      await writeAtomically(this.#path, encodeMaterial(material), 0o600);
      await this.#publish(material);
      return true;
    } catch (cause) {
      if (cause instanceof ControlError) throw cause;
      throw new ControlError('ca.state', `cannot store the root in ${this.#path}: ${errorText(cause)}`, { cause });
    } finally {
      await unlock();
    }
  }

  async #read(): Promise<Material | undefined> {
    const text = await readSecret(this.#path);
    return text === undefined ? undefined : decodeMaterial(text, this.#path);
  }

  async #publish(material: Material): Promise<void> {
    const path = join(this.#directory, 'root-cert.pem');
    const bundle = trustBundle(material);
    const there = await readFile(path, 'utf8').catch(() => undefined);
    if (there !== bundle) await writeAtomically(path, bundle, 0o644);
  }

  async #lock(): Promise<() => Promise<void>> {
    const lock = `${this.#path}.lock`;
    const mine = `${lock}.${process.pid}.${randomUUID()}`;
    const deadline = performance.now() + LOCK_PATIENCE_MS;
    await writeFile(mine, `${process.pid}\n`, { mode: 0o600 });
    try {
      while (!(await tryLink(mine, lock))) {
        if (performance.now() > deadline) {
          throw new ControlError('ca.state', `another process holds ${lock}`, { next: `if none runs: rm ${lock}` });
        }
        await breakStale(lock, mine);
        await delay(LOCK_POLL_MS);
      }
    } finally {
      await rm(mine, { force: true });
    }
    return () => rm(lock, { force: true });
  }
}

/** Making a hard link is the one step that fails if the name exists, on network file systems too. */
async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

async function breakStale(lock: string, mine: string): Promise<void> {
  try {
    const { mtimeMs } = await stat(lock);
    if (Date.now() - mtimeMs < STALE_LOCK_MS) return;
    // Of several that see it stale one moves it away; the others find it gone or the new one fresh.
    await rename(lock, `${mine}.stale`);
    // Between looking and moving, another may have taken the lock anew: then it is put back.
    if (Date.now() - (await stat(`${mine}.stale`)).mtimeMs < STALE_LOCK_MS) await tryLink(`${mine}.stale`, lock);
    await rm(`${mine}.stale`, { force: true });
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}
