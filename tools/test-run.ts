// The whole proof of a work tree, on the pinned Node: types, lint, format and arrows side by side, then unit tests, then
// end-to-end tests inside a sandbox (network namespaces of their own). Everything runs even if something before it
// failed; the exit status is 0 only if nothing did.

import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { duration } from './progress.mjs';
import { Tally } from './test-tally.ts';

const USAGE = `Proves that the work tree is sound.

  npm test                          everything: checks, unit tests, end-to-end tests
  npm test -- --only hpack          the test files with hpack in their path
  npm run test:e2e -- --only bed    the same among the end-to-end tests

  --unit          checks and unit tests only
  --e2e           end-to-end tests only
  --only PATTERN  test files whose path contains PATTERN, and no checks

AMBIT_TEST_REQUIRE_SANDBOX=1 makes a machine that allows no sandbox a failure instead of a skip.
`;

const root = resolve(import.meta.dirname, '..');
const bin = join(root, 'node_modules/.bin');
const UNIT_FILES = [
  'packages/*/src/**/*.test.ts',
  'packages/*/test/**/*.test.ts',
  'bench/**/*.test.ts',
  'tools/*.test.ts',
];
const E2E_FILES = 'packages/*/test/**/*.e2e.test.ts';
/** For a whole file, so that a test that hangs fails while somebody still watches. */
const UNIT_TIMEOUT_MS = 120_000;
const E2E_TIMEOUT_MS = 300_000;
const MAX_CHECK_LINES = 40;

const CHECKS: readonly { readonly name: string; readonly command: readonly string[]; readonly next: string }[] = [
  { name: 'types', command: ['tsc', '--noEmit', '--pretty', 'false'], next: 'npm run types' },
  { name: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings', '--format=unix'], next: 'npm run lint' },
  { name: 'format', command: ['biome', 'format', '--reporter=summary', '.'], next: 'npm run format' },
  {
    name: 'arrows',
    command: ['depcruise', '--config', '.dependency-cruiser.mjs', 'packages', 'tools', '{bench,examples}/**/*.ts'],
    next: 'npm run arrows',
  },
];

const tally = new Tally();
/** Set by Ctrl-C or SIGTERM: what runs is let end (it gets the signal too), what has not begun is left out. */
let interruptedBy: NodeJS.Signals | undefined;
const running = new Set<ReturnType<typeof spawn>>();
const scratch = mkdtempSync(join(tmpdir(), 'ambit-test-'));

async function main(): Promise<number> {
  const options = {
    unit: { type: 'boolean' },
    e2e: { type: 'boolean' },
    only: { type: 'string' },
    help: { type: 'boolean' },
  } as const;
  let flags;
  try {
    flags = parseArgs({ options }).values;
  } catch (error) {
    console.error(`error: ${error instanceof Error ? error.message : String(error)}\n  next  npm test -- --help`);
    return 2;
  }
  if (flags.help === true) {
    console.log(USAGE);
    return 0;
  }
  const isAll = flags.unit !== true && flags.e2e !== true;
  const pick = (path: string): boolean => flags.only === undefined || path.includes(flags.only);
  const e2e = globSync(E2E_FILES, { cwd: root }).filter(pick).toSorted();
  const unit = globSync(UNIT_FILES, { cwd: root })
    .filter(path => pick(path) && !path.includes('.e2e.'))
    .toSorted();
  const wanted = [...(isAll || flags.unit === true ? unit : []), ...(isAll || flags.e2e === true ? e2e : [])];
  if (wanted.length === 0) {
    console.error(
      flags.only === undefined ? 'error: there are no such tests' : `error: no test file has ${flags.only} in its path`,
    );
    return 2;
  }

  if (flags.only === undefined && (isAll || flags.unit === true)) await runChecks();
  if (interruptedBy === undefined && wanted.some(path => unit.includes(path))) await runUnit(unit);
  if (interruptedBy === undefined && wanted.some(path => e2e.includes(path))) await runE2e(e2e);
  process.stdout.write(tally.text());
  if (interruptedBy !== undefined) {
    console.log(`interrupted by ${interruptedBy}: the rest did not run`);
    return 1;
  }
  return tally.failed === 0 ? 0 : 1;
}

async function runChecks(): Promise<void> {
  console.log('checks');
  await Promise.all(
    CHECKS.map(async ({ name, command: [program = '', ...args], next }) => {
      const startedAt = performance.now();
      const { code, output } = await capture(join(bin, program), args);
      tally.add(code === 0);
      stepLine(code === 0, name, startedAt);
      if (code !== 0) console.log(`${head(output)}\n         next  ${next}`);
    }),
  );
}

/** Enough to start with; the command named under `next` shows all of it. */
function head(output: string): string {
  const lines = output.trim().split('\n');
  const rest = lines.length - MAX_CHECK_LINES;
  const shown = rest > 0 ? [...lines.slice(0, MAX_CHECK_LINES), `and ${rest} lines more`] : lines;
  return shown.map(line => `         ${line}`).join('\n');
}

async function runUnit(files: readonly string[]): Promise<void> {
  console.log(`\nunit tests, ${files.length} files`);
  const startedAt = performance.now();
  const facts = join(scratch, 'unit.jsonl');
  const child = spawn(process.execPath, testArguments(files, 2, UNIT_TIMEOUT_MS), {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, AMBIT_TEST_TALLY: facts },
  });
  const code = await exitCode(child);
  tally.addRun(facts, code);
  stepLine(code === 0, 'unit tests', startedAt);
}

/** One file at a time: they share the sandbox's networks, and a bed on two cores wants both. */
async function runE2e(files: readonly string[]): Promise<void> {
  console.log(`\nend-to-end tests, ${files.length} files, in a sandbox`);
  const startedAt = performance.now();
  let code = 1;
  const facts = join(scratch, 'e2e.jsonl');
  try {
    // Imported here, so that a testbed that does not even load fails these tests and no others.
    const { enterSandbox, sandboxAbility } = await import('@ambit/testbed');
    const ability = sandboxAbility();
    if (ability.kind === 'none') {
      const isRequired = process.env['AMBIT_TEST_REQUIRE_SANDBOX'] === '1';
      console.log(`  ${isRequired ? 'FAILED' : 'skip  '} ${ability.reason}`);
      if (isRequired) tally.add(false);
      else tally.skips.push(...files.map(file => ({ file, name: 'the whole file', reason: ability.reason })));
      return;
    }
    const argv = [process.execPath, ...testArguments(files, 1, E2E_TIMEOUT_MS)];
    code = await enterSandbox(argv, { ability, cwd: root, env: { ...process.env, AMBIT_TEST_TALLY: facts } });
  } catch (error) {
    console.log(error);
  }
  tally.addRun(facts, code);
  stepLine(code === 0, 'end-to-end tests', startedAt);
}

function testArguments(files: readonly string[], concurrency: number, timeoutMs: number): string[] {
  const reporter = new URL('test-reporter.mjs', import.meta.url).href;
  const flags = [`--test-concurrency=${concurrency}`, `--test-timeout=${timeoutMs}`, `--test-reporter=${reporter}`];
  return ['--test', ...flags, '--test-reporter-destination=stdout', ...files];
}

function stepLine(isGood: boolean, name: string, startedAt: number): void {
  console.log(`  ${isGood ? 'ok    ' : 'FAILED'} ${name.padEnd(52)} ${duration(performance.now() - startedAt)}`);
}

async function capture(program: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  const env = { ...process.env, NO_COLOR: '1' };
  const child = spawn(program, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
    });
  }
  return { code: await exitCode(child), output };
}

/** Resolves when the process and its streams have ended; a signal or a failed start counts as status 1. */
function exitCode(child: ReturnType<typeof spawn>): Promise<number> {
  const { promise, resolve: settle } = Promise.withResolvers<number>();
  running.add(child);
  child.on('error', error => {
    console.log(error.message);
    settle(1);
  });
  child.on('close', code => {
    running.delete(child);
    settle(code ?? 1);
  });
  return promise;
}

process.on('SIGINT', () => (interruptedBy ??= 'SIGINT'));
process.on('SIGTERM', () => {
  interruptedBy ??= 'SIGTERM';
  for (const child of running) child.kill('SIGTERM');
});
try {
  process.exitCode = await main();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
