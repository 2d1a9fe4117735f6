// A sandbox is a program running in network, mount and process namespaces of its own, with a private /run. Whatever it
// makes (namespaces, rules, processes, files under /run) is gone when the sandbox's init is, and init goes when the
// program ends or when the process that entered the sandbox dies in any way, SIGKILL included. Works as root, and as an
// ordinary user where the system allows user namespaces. It isolates networks; it is no security boundary.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { TestbedError } from './errors.ts';

export type SandboxAbility =
  | { readonly kind: 'root' }
  | { readonly kind: 'userns' }
  | { readonly kind: 'none'; readonly reason: string };

export interface SandboxOptions {
  /** Environment of the program; default: that of this process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Standard streams of the program; default: those of this process. */
  readonly stdio?: 'inherit' | 'ignore';
  /** What `sandboxAbility` said, to spare a second try. */
  readonly ability?: SandboxAbility;
}

/** Directory for whatever the programs in a sandbox want to keep; memory, private, gone with the sandbox. */
export const SANDBOX_DIR = '/run/ambit';

/** The word that sandbox-init.sh copied from the environment: both agree only inside. */
const TOKEN_PATH = `${SANDBOX_DIR}/sandbox`;
const TOKEN_VARIABLE = 'AMBIT_SANDBOX';
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2', 'SIGWINCH'] as const;
const NAMESPACES = ['--net', '--mount', '--pid', '--fork', '--kill-child=SIGKILL', '--mount-proc'];
const USER_NAMESPACE = ['--user', '--map-root-user'];
const INIT_SCRIPT = join(import.meta.dirname, 'sandbox-init.sh');
/**
 * Runs before the namespaces exist, its own death signal already set; $0 is our process id. If we died before the death
 * signal was set, it has another parent by now and must not start anything.
 */
const START_SCRIPT = '[ "$PPID" = "$0" ] || exit 1; exec unshare "$@"';
/** What a bed needs from the kernel, tried for real. */
const TRIAL =
  'ip netns add trial && ip link add trial0 type veth peer name trial1 && nft add table inet trial && ip netns del trial';
const TRIAL_TIMEOUT_MS = 10_000;

/** Finds out by doing it (about 50 ms). `reason` is a sentence for people. */
export function sandboxAbility(): SandboxAbility {
  if (process.platform !== 'linux') return { kind: 'none', reason: 'network namespaces exist on Linux only' };
  for (const tool of ['setpriv', 'unshare', 'ip', 'nft']) {
    const found = spawnSync(tool, ['--version'], { env: environment(process.env), timeout: TRIAL_TIMEOUT_MS });
    // ip answers to -V only, so the exit status says nothing; a missing tool cannot be started at all.
    if (found.error !== undefined) {
      return { kind: 'none', reason: `${tool} is missing; install util-linux, iproute2 and nftables` };
    }
  }
  const failures: string[] = [];
  for (const kind of process.getuid?.() === 0 ? (['root', 'userns'] as const) : (['userns'] as const)) {
    const failure = tryOnce(kind);
    if (failure === undefined) return { kind };
    failures.push(`${kind === 'root' ? 'as root' : 'with a user namespace'}: ${failure}`);
  }
  return { kind: 'none', reason: `the system allows no network namespaces (${failures.join('; ')})` };
}

/** Whether this process runs inside a sandbox. An exported variable alone does not convince it. */
export function insideSandbox(): boolean {
  const token = process.env[TOKEN_VARIABLE];
  if (token === undefined || token === '') return false;
  try {
    return readFileSync(TOKEN_PATH, 'utf8') === token;
  } catch {
    return false; // no such file: the variable came from elsewhere
  }
}

/**
 * Runs a program in a new sandbox until it ends. Signals sent to this process meanwhile reach the program, once each;
 * the terminal stays usable.
 * @returns the program's exit status, or 128 + signal number as shells have it
 * @throws testbed.no_sandbox when the namespaces cannot be made
 */
export async function enterSandbox(argv: readonly string[], options: SandboxOptions = {}): Promise<number> {
  const ability = options.ability ?? sandboxAbility();
  if (ability.kind === 'none') throw cannotEnter(ability.reason);
  const child = start(ability.kind, argv, options);
  using leash = new Leash(child);
  return await ending(child, leash);
}

function start(kind: 'root' | 'userns', argv: readonly string[], options: SandboxOptions): ChildProcess {
  const stdio = options.stdio ?? 'inherit';
  return spawn('setpriv', startArguments(kind, argv), {
    env: environment(options.env ?? process.env),
    cwd: options.cwd,
    // The fourth stream is the leash: words of ours go in, and its end tells the sandbox that we are gone.
    stdio: [stdio, stdio, stdio, 'pipe'],
    // A session of its own, so that Ctrl-C reaches this process only and is passed on exactly once.
    detached: true,
  });
}

function startArguments(kind: 'root' | 'userns', argv: readonly string[]): string[] {
  const unshare = [...(kind === 'userns' ? USER_NAMESPACE : []), ...NAMESPACES];
  // setpriv gives the first link of the chain a death signal; START_SCRIPT then checks that we had not died before.
  const first = ['--pdeathsig', 'KILL', '--', 'sh', '-c', START_SCRIPT, String(process.pid)];
  return [...first, ...unshare, '--', 'sh', INIT_SCRIPT, ...argv];
}

function environment(base: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  // ip and nft live in sbin, which is not on the path of ordinary users everywhere.
  return { ...base, PATH: `${base['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, [TOKEN_VARIABLE]: randomUUID() };
}

function tryOnce(kind: 'root' | 'userns'): string | undefined {
  const result = spawnSync('setpriv', startArguments(kind, ['sh', '-c', TRIAL]), {
    env: environment(process.env),
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    timeout: TRIAL_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  if (result.status === 0) return undefined;
  return result.error?.message ?? (String(result.stderr).trim().split('\n').at(-1) || `exit status ${result.status}`);
}

async function ending(child: ChildProcess, leash: Leash): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once('error', cause => reject(cannotEnter(cause.message, cause)));
  // `close` instead of `exit`, so that the word "ready" has been read when it was ever written.
  child.once('close', (code, signal) => {
    if (leash.isReady) resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    else
      reject(cannotEnter(signal === null ? `its init ended with status ${code}` : `its init was ended by ${signal}`));
  });
  return promise;
}

/** Our end of the sandbox's descriptor 3: passes signals on, from the moment the program exists. */
class Leash {
  readonly #stream: Duplex | undefined;
  readonly #handlers: { readonly signal: NodeJS.Signals; readonly pass: () => void }[] = [];
  #early: string[] = [];
  #isReady = false;

  constructor(child: ChildProcess) {
    // A fourth stream of kind 'pipe' is a socket, both ways; it is missing when the program could not be started.
    this.#stream = (child.stdio[3] ?? undefined) as Duplex | undefined;
    this.#stream?.once('data', () => {
      this.#isReady = true;
      for (const word of this.#early) this.#stream?.write(word);
      this.#early = [];
    });
    this.#stream?.on('error', () => {}); // the sandbox ended while a word was on its way: `close` tells
    for (const signal of FORWARDED) {
      const pass = () => this.#send(`${signal.slice(3)}\n`);
      process.on(signal, pass);
      this.#handlers.push({ signal, pass });
    }
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  #send(word: string): void {
    if (this.#isReady) this.#stream?.write(word);
    else this.#early.push(word);
  }

  [Symbol.dispose](): void {
    for (const { signal, pass } of this.#handlers) process.off(signal, pass);
    this.#stream?.destroy();
  }
}

function cannotEnter(reason: string, cause?: unknown): TestbedError {
  return new TestbedError('testbed.no_sandbox', `cannot make a sandbox: ${reason}`, {
    next: 'run as root, or allow unprivileged user namespaces (kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)',
    cause,
  });
}
