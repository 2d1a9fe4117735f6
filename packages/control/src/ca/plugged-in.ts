// An authority that somebody else made: the directory that upstream's secret `cacerts` is mounted at, or one in the layout of
// kubernetes.io/tls. Read as a whole, checked as a whole, taken over as a whole: a change that does not hold together is
// reported and the last good state stays. Keys are not copied anywhere.
import { watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Diagnostic } from '../diagnostic.ts';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';
import { openSigner, readRoots, type Signer, type SignerFiles } from './signer.ts';
import type { SigningSource, SigningState } from './signing-source.ts';
import { isMissing } from './state-files.ts';

export interface PluggedInOptions {
  readonly directory: string;
  /** Signers that were replaced go on signing their lists this long: the longest life of a certificate. */
  readonly retainMs: number;
  readonly now: () => number;
}

interface Retired {
  readonly signer: Signer;
  readonly untilMs: number;
}

/** As upstream: mounts change in several steps. */
const DEBOUNCE_MS = 100;
const MAX_RETIRED = 8;

export class PluggedIn implements SigningSource {
  /** Only whoever plugged it in knows. */
  readonly dueAtMs = undefined;
  readonly name: string;
  readonly #options: PluggedInOptions;
  #state: SigningState | undefined;
  #retired: readonly Retired[] = [];
  #problems: readonly Diagnostic[] = [];

  constructor(options: PluggedInOptions) {
    this.name = `directory ${options.directory}`;
    this.#options = options;
  }

  get state(): SigningState | undefined {
    return this.#state;
  }

  get problems(): readonly Diagnostic[] {
    return this.#problems;
  }

  async start(): Promise<void> {
    this.#state = await this.#read();
  }

  async refresh(): Promise<boolean> {
    const before = this.#state;
    try {
      const after = await this.#read();
      this.#problems = [];
      if (before !== undefined && isSameState(before, after)) return false;
      if (before !== undefined) checkOverlap(before, after, this.#options.directory);
      this.#state = after;
      return true;
    } catch (error) {
      this.#problems = [toProblem(error, this.#options.directory)];
      return false;
    }
  }

  async rotate(): Promise<void> {
    throw new ControlError('ca.rotation', `the root in ${this.name} is not ours to replace`, {
      next: 'first add the new root to root-cert.pem; when every certificate was renewed, replace the signing pair',
    });
  }

  watch(changed: () => void): () => void {
    let timer: NodeJS.Timeout | undefined;
    const watcher = watch(this.#options.directory, { persistent: false }, () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        changed();
      }, DEBOUNCE_MS).unref();
    });
    // The directory may be unmounted; the regular refresh goes on and says so.
    watcher.on('error', () => watcher.close());
    return () => {
      clearTimeout(timer);
      watcher.close();
    };
  }

  async #read(): Promise<SigningState> {
    const { directory, now, retainMs } = this.#options;
    const files = await findFiles(directory);
    const [certPem, keyPem, chainPem, rootsPem, foreignCrlPem] = await Promise.all([
      required(files.cert),
      required(files.key),
      optional(files.chain),
      required(files.roots),
      optional(join(directory, 'ca-crl.pem')),
    ]);
    const nowMs = now();
    const signer = openSigner({ certPem, keyPem, chainPem, rootsPem }, files, nowMs);
    const last = this.#state?.signer;
    if (last !== undefined && last.id !== signer.id && !this.#retired.some(each => each.signer.id === last.id)) {
      this.#retired = [{ signer: last, untilMs: nowMs + retainMs }, ...this.#retired].slice(0, MAX_RETIRED);
    }
    this.#retired = this.#retired.filter(each => each.untilMs > nowMs && each.signer.id !== signer.id);
    const signers = [signer, ...this.#retired.map(each => each.signer)];
    return { signer, signers, rootsPem: withNewline(rootsPem), foreignCrlPem, phase: 'plugged in' };
  }
}

/** Whether the directory holds anything of a plugged-in authority: if it does, all of it must be right. */
export async function hasPluggedIn(directory: string): Promise<boolean> {
  const names = ['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem', 'tls.crt', 'tls.key'];
  const found = await Promise.all(names.map(name => optional(join(directory, name))));
  return found.some(text => text !== '');
}

async function findFiles(directory: string): Promise<SignerFiles> {
  const at = (name: string): string => join(directory, name);
  const isTlsLayout = (await optional(at('ca-cert.pem'))) === '' && (await optional(at('tls.crt'))) !== '';
  return isTlsLayout
    ? { cert: at('tls.crt'), key: at('tls.key'), chain: at('tls.crt'), roots: at('ca.crt') }
    : { cert: at('ca-cert.pem'), key: at('ca-key.pem'), chain: at('cert-chain.pem'), roots: at('root-cert.pem') };
}

async function required(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new ControlError('ca.bad_material', `cannot read ${path}: ${errorText(cause)}`, {
      cause,
      next: 'a plugged-in CA needs ca-cert.pem, ca-key.pem, root-cert.pem (or tls.crt, tls.key, ca.crt); remove all of them for a root of our own',
    });
  }
}

async function optional(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return '';
    throw new ControlError('ca.bad_material', `cannot read ${path}: ${errorText(error)}`, { cause: error });
  }
}

/** Roots that replace all others at once would cut every connection; a restart can still force it. */
function checkOverlap(before: SigningState, after: SigningState, directory: string): void {
  const known = new Set(readRoots(before.rootsPem, directory).map(root => root.fingerprint256));
  if (readRoots(after.rootsPem, directory).some(root => known.has(root.fingerprint256))) return;
  throw new ControlError('ca.root_no_overlap', `the new roots in ${directory} have none in common with those in use`, {
    next: 'put the old root and the new one into root-cert.pem until every certificate was renewed',
  });
}

function isSameState(a: SigningState, b: SigningState): boolean {
  return (
    a.rootsPem === b.rootsPem &&
    a.foreignCrlPem === b.foreignCrlPem &&
    a.signer.intermediates.join('') === b.signer.intermediates.join('') &&
    a.signers.map(each => each.id).join() === b.signers.map(each => each.id).join()
  );
}

function toProblem(error: unknown, directory: string): Diagnostic {
  const known = error instanceof ControlError ? error : undefined;
  return {
    code: known?.code ?? 'ca.bad_material',
    severity: 'error',
    message: known?.message ?? `cannot read ${directory}: ${errorText(error)}`,
    remedy: known?.next ?? 'the certificates in use stay until this is mended',
  };
}

function withNewline(pem: string): string {
  return pem.endsWith('\n') ? pem : `${pem}\n`;
}
