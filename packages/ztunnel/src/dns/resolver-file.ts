// resolv.conf, watched on the main thread: who changes it (a DHCP client, systemd-resolved, a kubelet) tells nobody. Looked at
// every few seconds by name, since it is often a link, replaced by renaming, or mounted, and none of that wakes a watcher.
import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import { errorText } from '../errors.ts';
import type { Logger } from '../log.ts';
import { parseResolvConf, type ResolvConf } from './resolv-conf.ts';

export interface ResolverFileDeps {
  readonly log: Logger;
  readonly onChange: (conf: ResolvConf) => void;
}

const LOOK_MS = 3000;
/** More than any real one; a wrong path must not fill the memory. */
const MAX_TEXT = 64 * 1024;

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
      text = readFileSync(this.#path, 'utf8').slice(0, MAX_TEXT);
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
