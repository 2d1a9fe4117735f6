// `ambit demo`: enters a sandbox with the same command, and runs the demo inside. Wiring only.
import { statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import {
  describeTestbedError,
  enterSandbox,
  insideSandbox,
  type SandboxAbility,
  sandboxAbility,
  TestbedError,
} from '@ambit/testbed';
import { type DemoMode, runDemo, type StoreKind } from '@ambit/testbed/demo';
import { problemText } from '../render/problem.ts';

/** As commander gives them. */
export interface DemoFlags {
  readonly for?: string;
  readonly output: string;
  /** Directory of Kubernetes YAML in place of `examples/shop`. */
  readonly objects?: string;
  readonly store?: StoreKind;
  readonly loopback?: boolean;
  readonly debug?: boolean;
  readonly breakEncryption?: boolean;
}

const MAIN = join(import.meta.dirname, '..', 'main.ts');
const EXAMPLES = join(import.meta.dirname, '..', '..', '..', '..', 'examples', 'shop');
const VERSION = '0.1.0';
/** Tells the program inside what is around it. */
const MODE_VARIABLE = 'AMBIT_SANDBOX_MODE';

/** @returns the exit status */
export async function demo(flags: DemoFlags): Promise<number> {
  const forMs = flags.for === undefined ? undefined : parseDuration(flags.for);
  if (forMs === null) return usage(`"${flags.for}" is no duration`, 'write a number with ms, s, m or h: --for 15s');
  if (flags.output !== 'table' && flags.output !== 'json') {
    return usage(`there is no output format "${flags.output}"`, 'use table or json');
  }
  if (flags.output === 'json' && forMs === undefined) {
    return usage('-o json prints one document at the end, so it needs an end', 'add --for 15s');
  }
  const output = flags.output;
  const directory = resolve(flags.objects ?? EXAMPLES);
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
    return usage(`there is no directory ${directory}`, 'copy the one that Ambit has: cp -r examples/shop my-shop');
  }
  const run = async (mode: DemoMode): Promise<number> =>
    runDemo({
      ztunnelCommand: [process.execPath, MAIN, 'ztunnel'],
      controlCommand: [process.execPath, MAIN, 'control'],
      objects: { directory, title: titleOf(directory) },
      forMs,
      output,
      mode,
      version: VERSION,
      store: flags.store,
      breakEncryption: flags.breakEncryption === true,
    });
  try {
    const mode = process.env[MODE_VARIABLE];
    if (isSandboxMode(mode) && insideSandbox()) return await run(mode);
    const ability: SandboxAbility = flags.loopback === true ? { kind: 'none', reason: 'as asked' } : sandboxAbility();
    if (ability.kind !== 'none') return await enter(ability);
    const text = `no network namespaces, so two proxies on loopback instead of two nodes: ${ability.reason}`;
    process.stderr.write(`note: ${text}\n`);
    return await run('loopback');
  } catch (error) {
    if (!(error instanceof TestbedError) || flags.debug === true) throw error;
    process.stderr.write(`error: ${describeTestbedError(error)}\n`);
    return 3;
  }
}

/** As somebody here would type it. */
function titleOf(directory: string): string {
  const path = relative(process.cwd(), directory);
  return path.startsWith('..') ? directory : path === '' ? '.' : path;
}

async function enter(ability: SandboxAbility): Promise<number> {
  const env = { ...process.env, [MODE_VARIABLE]: ability.kind };
  return enterSandbox([process.execPath, ...process.execArgv, MAIN, ...process.argv.slice(2)], { ability, env });
}

function isSandboxMode(text: string | undefined): text is DemoMode {
  return text === 'root' || text === 'userns';
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** Milliseconds, at most a day; null when it is none. */
function parseDuration(text: string): number | null {
  const [, digits, unit = ''] = /^(\d{1,8}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Number(digits) * (UNITS[unit] ?? Number.NaN);
  return ms >= 1 && ms <= 24 * 3_600_000 ? ms : null;
}

function usage(what: string, next: string): number {
  process.stderr.write(problemText({ message: what, next }));
  return 2;
}
