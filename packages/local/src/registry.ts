// What this machine's workloads are, in one file each below `/run`: the truth after the agent was started again. A file
// that cannot be read is told and passed over; its processes and link are garbage then.
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, type Log } from '@ambit/log';
import { writeAtomically } from './atomic-file.ts';
import { readWorkload, type Workload } from './workload.ts';

export class Registry {
  readonly #directory: string;
  readonly #log: Log;

  constructor(directory: string, log: Log) {
    this.#directory = directory;
    this.#log = log;
  }

  /** @throws the file system's error */
  load(): Workload[] {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    return readdirSync(this.#directory)
      .filter(name => /^[^.].*\.json$/.test(name))
      .flatMap(name => {
        const path = join(this.#directory, name);
        try {
          return [readWorkload(JSON.parse(readFileSync(path, 'utf8')))];
        } catch (error) {
          this.#log.warn('A workload of the registry is not readable and is forgotten', {
            path,
            error: errorText(error),
          });
          rmSync(path, { force: true });
          return [];
        }
      });
  }

  save(workload: Workload): void {
    writeAtomically(this.#pathOf(workload), JSON.stringify(workload));
  }

  forget(workload: Pick<Workload, 'namespace' | 'name'>): void {
    rmSync(this.#pathOf(workload), { force: true });
  }

  #pathOf({ namespace, name }: Pick<Workload, 'namespace' | 'name'>): string {
    // Both are DNS labels, without dots.
    return join(this.#directory, `${namespace}.${name}.json`);
  }
}
