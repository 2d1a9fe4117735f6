// Keeps the plugin installed while the agent lives: installs, watches the directories, and puts right what others undo. Two
// that each undo the other's work would wear out the disk and nobody would notice, so repairs are slowed and told of.
import { dirname } from 'node:path';
import { errorText, type Log } from '@ambit/log';
import { DirectoryWatch, type DirectoryWatchOptions } from './directory-watch.ts';
import { install, type InstallResult, type InstallStep, uninstall } from './install.ts';
import type { InstallOptions } from './install-options.ts';
import { SERVICE_ACCOUNT_DIR } from './kubeconfig.ts';

export type InstallState =
  | { readonly kind: 'installed'; readonly file: string }
  | { readonly kind: 'waiting'; readonly why: string }
  /** Will be tried again at the next change, or after a while. */
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'stopped' };

export interface InstallerDeps {
  readonly log: Log;
  /** After every change of the state, and after every pass that wrote something. */
  readonly onState?: (state: InstallState) => void;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: () => number;
}

export interface InstallerOptions extends InstallOptions {
  readonly watch?: DirectoryWatchOptions;
  /** Repairs sooner after each other than this are a quarrel. Default 5 s. */
  readonly calmMs?: number;
  /** How long a repair waits then. Default 1 s. */
  readonly delayMs?: number;
}

const QUARREL = 5;

/** States: new -> running (`state` says how it stands) -> stopped. */
export class Installer {
  readonly #options: InstallerOptions;
  readonly #log: Log;
  readonly #onState: (state: InstallState) => void;
  readonly #now: () => number;
  readonly #abort = new AbortController();
  #state: InstallState = { kind: 'waiting', why: 'the installation has not begun' };
  #running: Promise<void> | undefined;
  /** How often something was written, and how often a step failed. */
  #installs = 0;
  readonly #failures: Record<InstallStep, number> = { executables: 0, kubeconfig: 0, configuration: 0 };
  #lastRepair = Number.NEGATIVE_INFINITY;
  #quarrels = 0;

  constructor(deps: InstallerDeps, options: InstallerOptions) {
    this.#options = options;
    this.#log = deps.log;
    this.#onState = deps.onState ?? (() => undefined);
    this.#now = deps.now ?? (() => performance.now());
  }

  get state(): InstallState {
    return this.#state;
  }

  get counts(): { readonly installs: number; readonly failures: Readonly<Record<InstallStep, number>> } {
    return { installs: this.#installs, failures: this.#failures };
  }

  /** Begins; `state` tells how far it is. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends the watching. With `uninstalls` the plugin is taken out, which an agent that is only replaced must not do. */
  async stop({ uninstalls }: { readonly uninstalls: boolean }): Promise<void> {
    this.#abort.abort();
    await this.#running;
    if (this.#state.kind === 'stopped') return;
    if (uninstalls) {
      const changed = uninstall(this.#options);
      this.#log.info('Plugin uninstalled', { changed: changed.join(' ') });
    }
    this.#enter({ kind: 'stopped' });
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    using changes = new DirectoryWatch(this.#directories(), this.#options.watch);
    // An event comes once the watches stand; looking before would leave a gap.
    while (!signal.aborted) {
      await changes.changed(signal);
      if (signal.aborted) return;
      if (this.#isQuarrelling()) await this.#wait(signal);
      if (!signal.aborted) this.#pass();
    }
  }

  #pass(): void {
    let result: InstallResult;
    let step: InstallStep = 'executables';
    try {
      result = install(this.#options, next => {
        step = next;
      });
    } catch (error) {
      this.#failures[step] += 1;
      this.#enter({ kind: 'failed', why: errorText(error) });
      return;
    }
    if (result.kind === 'waiting') {
      this.#enter({ kind: 'waiting', why: result.why });
      return;
    }
    const { file, written, warnings } = result;
    if (written.length > 0) this.#told(file, written, warnings);
    this.#enter({ kind: 'installed', file }, written.length > 0);
  }

  #told(file: string, written: readonly string[], warnings: readonly string[]): void {
    const fields = { file, written: written.join(' ') };
    if (this.#installs === 0) this.#log.info('Plugin installed', fields);
    else {
      this.#log.warn('Installation of the plugin repaired', fields);
      const now = this.#now();
      this.#quarrels = now - this.#lastRepair < (this.#options.calmMs ?? 5000) ? this.#quarrels + 1 : 0;
      this.#lastRepair = now;
      if (this.#quarrels === QUARREL + 1)
        this.#log.error('Somebody keeps undoing the installation of the plugin', hint(file));
    }
    this.#installs += 1;
    for (const warning of warnings) this.#log.warn(warning);
  }

  #isQuarrelling(): boolean {
    return this.#now() - this.#lastRepair < (this.#options.calmMs ?? 5000);
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, this.#options.delayMs ?? 1000);
    signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    clearTimeout(timer);
  }

  #enter(state: InstallState, isNews = false): void {
    const isChange = JSON.stringify(state) !== JSON.stringify(this.#state);
    this.#state = state;
    if (isChange && state.kind === 'failed') this.#log.error('The plugin cannot be installed', { why: state.why });
    if (isChange && state.kind === 'waiting') this.#log.info('Waiting to install the plugin', { why: state.why });
    if (isChange || isNews) this.#onState(state);
  }

  #directories(): readonly string[] {
    const { confDir, binDirs, entry, kubeconfig } = this.#options;
    if (kubeconfig === undefined) return [confDir, ...binDirs];
    const { serviceAccountDir = SERVICE_ACCOUNT_DIR, caFile } = kubeconfig;
    return [confDir, ...binDirs, serviceAccountDir, entry.runDir, ...(caFile === undefined ? [] : [dirname(caFile)])];
  }
}

function hint(file: string): { readonly file: string; readonly next: string } {
  const next = file.includes('cilium')
    ? 'set cni.exclusive=false in the values of Cilium'
    : 'find what else writes this directory, such as another installer';
  return { file, next };
}
