// resolv.conf, watched on the main thread: who changes it (a DHCP client, systemd-resolved, a kubelet) tells nobody. Looked at
// every few seconds by name, since it is often a link, replaced by renaming, or mounted, and none of that wakes a watcher.
import { closeSync, constants, openSync, readSync, unwatchFile, watchFile } from 'node:fs';
import { errorText } from '../errors.ts';
import type { Logger } from '../log.ts';
import { parseResolvConf, type ResolvConf } from './resolv-conf.ts';

export interface ResolverFileDeps {
  readonly log: Logger;
  readonly onChange: (conf: ResolvConf) => void;
}

const LOOK_MS = 3000;
/** More than any real one; a wrong path must neither fill the memory nor take for ever. */
const MAX_BYTES = 64 * 1024;

export class ResolverFile {
  readonly #path: string;
  readonly #deps: ResolverFileDeps;
  readonly #listener = (): void => this.#read();
  #text: string | undefined;

  constructor(path: string, deps: ResolverFileDeps) {
    this.#path = path;
    this.#deps = deps;
  }

  /** Reads the file, tells of it, and then of each change until `stop`. */
  start(lookMs = LOOK_MS): void {
    this.#read();
    watchFile(this.#path, { interval: lookMs, persistent: false }, this.#listener);
  }

  stop(): void {
    unwatchFile(this.#path, this.#listener);
  }

  /** A file that is missing for a moment changes nothing; missing from the start it is an empty one, as in glibc. */
  #read(): void {
    let text: string;
    try {
      text = readBeginning(this.#path);
    } catch (error) {
      this.#deps.log.warn('Cannot read the list of DNS resolvers', [
        ['path', this.#path],
        ['error', errorText(error)],
      ]);
      if (this.#text !== undefined) return;
      text = '';
    }
    if (text === this.#text) return;
    this.#text = text;
    const conf = parseResolvConf(text);
    if (conf.unusable.length > 0) {
      this.#deps.log.warn('Some DNS resolvers are not usable here', [['resolvers', conf.unusable.join(' ')]]);
    }
    const resolvers = conf.set.resolvers.map(({ ip }) => ip).join(' ');
    this.#deps.log.info('DNS resolvers', [['resolvers', resolvers]]);
    this.#deps.onChange(conf);
  }
}

/** Whole lines of the first bytes. A pipe, which `O_NONBLOCK` keeps from being waited for, is empty. */
function readBeginning(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const bytes = Buffer.alloc(MAX_BYTES);
    let size = 0;
    for (let n = -1; n !== 0 && size < MAX_BYTES; size += n) n = readSync(fd, bytes, size, MAX_BYTES - size, null);
    const text = bytes.toString('utf8', 0, size);
    return size < MAX_BYTES ? text : text.slice(0, text.lastIndexOf('\n') + 1);
  } finally {
    closeSync(fd);
  }
}
