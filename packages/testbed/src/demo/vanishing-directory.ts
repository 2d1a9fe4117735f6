// A directory that goes when its maker does, SIGKILL included: a shell holds the other end of a pipe and removes the
// directory when the pipe closes, whatever closed it. In memory where the machine has such a place, since keys lie in it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';
/** Processes that die with us may still write for a moment. */
const REMOVE = 'read -r _; for i in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$1" && exit; sleep 0.2; done';

export class VanishingDirectory implements AsyncDisposable {
  readonly path: string;
  readonly #remove: () => Promise<void>;

  private constructor(path: string, remove: () => Promise<void>) {
    this.path = path;
    this.#remove = remove;
  }

  /** Makes it, mode 0700. @throws system errors */
  static async create(): Promise<VanishingDirectory> {
    const path = await mkdtemp(join(place(), 'ambit-'));
    const shell = spawn('sh', ['-c', REMOVE, 'sh', path], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    const exited = once(shell, 'exit');
    return new VanishingDirectory(path, async () => {
      shell.stdin.end();
      await exited;
    });
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#remove();
  }
}

function place(): string {
  try {
    accessSync(MEMORY, constants.W_OK | constants.X_OK);
    return MEMORY;
  } catch {
    return tmpdir();
  }
}
