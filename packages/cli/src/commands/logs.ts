// `ambit logs`: what a workload in the background printed, at most the last 8 MiB, and what it prints further.
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { LocalError, olderLog, workloadKey } from '@ambit/local';
import { type Output, processOutput } from '../render/output.ts';
import { directoriesOf, findWorkload, listWorkloads, type MeshFlags, tell } from './local-mesh.ts';

export interface LogsFlags extends MeshFlags {
  readonly follow?: boolean;
}

const PERIOD_MS = 200;
const CHUNK_BYTES = 64 * 1024;

export async function logs(name: string, flags: LogsFlags): Promise<number> {
  const output = processOutput();
  try {
    const directories = directoriesOf(flags);
    const workload = await findWorkload(directories, name);
    const path = workload.logPath;
    if (path === undefined) {
      throw new LocalError('local.argument', `${workloadKey(workload)} prints to the terminal it was started from`, {
        next: 'start it with --detach to keep what it prints',
      });
    }
    const tail = new Tail(path);
    if (existsSync(olderLog(path))) copyAll(olderLog(path), output);
    tail.copyNew(output);
    const isRunning = async () => (await listWorkloads(directories)).some(({ uid }) => uid === workload.uid);
    while (flags.follow === true && (await isRunning())) {
      tail.copyNew(output);
      await delay(PERIOD_MS);
    }
    tail.copyNew(output);
    return 0;
  } catch (error) {
    return tell(output, error);
  }
}

/** Reads a file as it grows, and its successor when it has become the older one. */
class Tail {
  readonly #path: string;
  #fd: number | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  copyNew(output: Output): void {
    this.#fd ??= existsSync(this.#path) ? openSync(this.#path, 'r') : undefined;
    if (this.#fd === undefined) return;
    copyRest(this.#fd, output);
    if (!existsSync(this.#path) || statSync(this.#path).ino === fstatSync(this.#fd).ino) return;
    closeSync(this.#fd);
    this.#fd = openSync(this.#path, 'r');
    copyRest(this.#fd, output);
  }
}

function copyAll(path: string, output: Output): void {
  const fd = openSync(path, 'r');
  copyRest(fd, output);
  closeSync(fd);
}

function copyRest(fd: number, output: Output): void {
  const decoder = new TextDecoder();
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let bytes = readSync(fd, buffer); bytes > 0; bytes = readSync(fd, buffer)) {
    output.answer(decoder.decode(buffer.subarray(0, bytes), { stream: true }));
  }
}
