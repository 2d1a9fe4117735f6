// The directories that are watched for changes. Directories, not files: a rename over a file, and the swap of a link, are
// events of the directory. Wishes are said anew in each round, and what nobody wished for is closed at its end; a
// directory that was replaced by another of the same name is noticed in the next round.
import { type FSWatcher, statSync, watch } from 'node:fs';

interface Watch {
  readonly watcher: FSWatcher;
  /** Device and inode: a name may come to mean another directory. */
  readonly identity: string;
  readonly wish: Wish;
}

/** Undefined names: everything in it. */
interface Wish {
  names: Set<string> | undefined;
  round: number;
}

export class DirectoryWatches {
  readonly #onEvent: () => void;
  readonly #watches = new Map<string, Watch>();
  #failed = new Set<string>();
  #round = 0;

  constructor(onEvent: () => void) {
    this.#onEvent = onEvent;
  }

  /** Directories of this round that could not be watched: too many watches on this machine, or not there. */
  get failed(): readonly string[] {
    return [...this.#failed];
  }

  begin(): void {
    this.#round++;
    this.#failed = new Set();
  }

  /** @param name undefined: the whole directory */
  want(directory: string, name?: string): void {
    const existing = this.#watches.get(directory);
    try {
      const { dev, ino } = statSync(directory);
      const identity = `${dev}:${ino}`;
      if (existing?.identity === identity) {
        this.#widen(existing.wish, name);
        return;
      }
      const wish: Wish = { names: name === undefined ? undefined : new Set([name]), round: this.#round };
      const watcher = watch(directory, (_, changed) => {
        if (isConcerned(wish, changed)) this.#onEvent();
      });
      // A directory that goes away ends its watch; the next round says what that means.
      watcher.on('error', () => this.#onEvent());
      existing?.watcher.close();
      this.#watches.set(directory, { watcher, identity, wish });
    } catch {
      this.#failed.add(directory);
    }
  }

  end(): void {
    for (const [directory, { watcher, wish }] of this.#watches) {
      if (wish.round === this.#round) continue;
      watcher.close();
      this.#watches.delete(directory);
    }
  }

  close(): void {
    for (const { watcher } of this.#watches.values()) watcher.close();
    this.#watches.clear();
  }

  /** The first wish of a round replaces the last round's. */
  #widen(wish: Wish, name: string | undefined): void {
    if (name === undefined) wish.names = undefined;
    else if (wish.round < this.#round) wish.names = new Set([name]);
    else wish.names?.add(name);
    wish.round = this.#round;
  }
}

/** Editors' swap files and their like are hidden; `..data` is what a mounted ConfigMap swaps. */
function isConcerned({ names }: Wish, changed: string | null): boolean {
  if (changed === null || changed.startsWith('..')) return true;
  return names === undefined ? !changed.startsWith('.') : names.has(changed);
}
