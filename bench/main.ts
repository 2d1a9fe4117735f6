// Measures Ambit beside other ways through the same two pods, in a sandbox of its own. Wiring and order only: rounds over
// candidates, each candidate in fresh namespaces, results written after every candidate so that an early end loses little.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg, release } from 'node:os';
import { join } from 'node:path';
import { describeTestbedError, enterSandbox, insideSandbox, mustRun, SANDBOX_DIR, TestbedError } from '@ambit/testbed';
import { makeCertificates } from './certificates.ts';
import { type BenchOptions, type CandidateName, parseOptions, type RowName } from './options.ts';
import { type Failure, type Machine, renderReport, type Results } from './report.ts';
import { runRow } from './rows.ts';
import { setStage, type StageOptions } from './stage.ts';
import type { Sample } from './statistics.ts';

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (!insideSandbox()) {
    return enterSandbox([process.execPath, import.meta.filename, ...process.argv.slice(2)]);
  }
  const startedAt = new Date();
  const rustBinary = process.env['ZTUNNEL_BIN'] || undefined;
  const present = { ...options, candidates: options.candidates.filter(name => name !== 'rust' || rustBinary) };
  if (present.candidates.length < options.candidates.length) say('rust is left out: ZTUNNEL_BIN names no program');
  const machine = await describeMachine(rustBinary);
  const directory = join(SANDBOX_DIR, 'bench');
  const certificates = await makeCertificates(directory, process.env);
  const stageOptions = { certificates, workers: options.workers, directory, rustBinary };
  const samples: Sample[] = [];
  const failures: Failure[] = [];
  const results = (): Results => ({
    startedAt: startedAt.toISOString(),
    seconds: (Date.now() - startedAt.getTime()) / 1_000,
    machine,
    options: present,
    samples,
    failures,
  });
  await warmCompileCache(present, stageOptions);
  for (let round = 0; round < options.rounds; round++) {
    for (const candidate of rotate(present.candidates, round)) {
      if (round > 0 && !isPaired(candidate)) continue;
      const loads = options.rows.filter(row => row !== 'memory' && isDue(row, candidate, round));
      await measure({ round, candidate, rows: loads }, present, stageOptions, samples, failures);
      // Memory moves little between rounds and takes the better part of a minute: once is enough.
      const rows: RowName[] =
        round === 0 && options.rows.includes('memory') && candidate !== 'direct' ? ['memory'] : [];
      await measure({ round, candidate, rows }, present, stageOptions, samples, failures);
      await writeResults(results(), options.output);
    }
  }
  process.stdout.write(`\n${renderReport(results())}`);
  return failures.length === 0 ? 0 : 1;
}

/** Reading is compared within a stage, in pairs enough for a median, so it takes one round; its control has no other row. */
function isDue(row: RowName, candidate: CandidateName, round: number): boolean {
  if (row === 'reading') return round === 0 && (candidate === 'ambit' || candidate === 'ambit-off');
  return candidate !== 'ambit-off';
}

/** The chains are a scale, not a rival: one round of them is enough, and a run stays under twenty minutes. */
function isPaired(candidate: CandidateName): boolean {
  return candidate !== 'haproxy' && candidate !== 'nginx';
}

interface Turn {
  readonly round: number;
  readonly candidate: CandidateName;
  readonly rows: readonly RowName[];
}

async function measure(
  { round, candidate, rows }: Turn,
  options: BenchOptions,
  stageOptions: StageOptions,
  samples: Sample[],
  failures: Failure[],
): Promise<void> {
  if (rows.length === 0) return;
  const fail = (what: string, error: unknown) => {
    const text = (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
    failures.push({ round, candidate, what, error: text });
    say(`${candidate} ${what} FAILED: ${text}`);
  };
  try {
    await using stage = await setStage(candidate, stageOptions);
    for (const row of rows) {
      try {
        const figures = await runRow(row, { stage, options });
        samples.push({ round, candidate, row, figures });
        const text = Object.entries(figures).map(([name, value]) => `${name} ${value.toFixed(2)}`);
        say(`round ${round + 1} ${candidate.padEnd(8)} ${text.join('  ')}`);
      } catch (error) {
        fail(row, error);
        process.stderr.write(`${stage.lastWords()}\n`);
      }
    }
  } catch (error) {
    fail('setting up', error);
  }
}

/** Node writes its compile cache when a process ends, so that the second start of Ambit is the one to measure. */
async function warmCompileCache({ candidates }: BenchOptions, stageOptions: StageOptions): Promise<void> {
  if (!candidates.some(name => name === 'ambit' || name === 'ambit-1')) return;
  say('warming the compile cache');
  try {
    await using _ = await setStage('ambit-1', stageOptions);
  } catch (error) {
    say(`cannot warm the compile cache: ${String(error)}`); // the candidate's own turn will fail and count
  }
}

/** Another order in each round, so that no candidate always follows the same one. */
function rotate<T>(list: readonly T[], by: number): readonly T[] {
  const at = list.length === 0 ? 0 : by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

async function writeResults(results: Results, output: string | undefined): Promise<void> {
  const directory = join(import.meta.dirname, 'results');
  await mkdir(directory, { recursive: true });
  const base = output ?? join(directory, results.startedAt.slice(0, 10));
  // `output` is of this machine and of no use to readers.
  await writeFile(
    `${base}.json`,
    `${JSON.stringify({ ...results, options: { ...results.options, output: undefined } }, null, 1)}\n`,
  );
  await writeFile(`${base}.md`, renderReport(results));
}

async function describeMachine(rustBinary: string | undefined): Promise<Machine> {
  const [model] = cpus();
  const version = async (command: string, pattern: RegExp) =>
    pattern.exec(await mustRun('sh', ['-c', `${command} 2>&1 || true`], { env: process.env }))?.[1] ?? 'missing';
  const peer = rustBinary === undefined ? undefined : await version(`'${rustBinary}' version`, /Version:"?([^",]+)/i);
  return {
    cores: cpus().length,
    processor: model?.model.trim() ?? 'unknown',
    kernel: release(),
    node: process.versions.node,
    openssl: process.versions.openssl,
    loadBefore: Number((await readFile('/proc/loadavg', 'utf8')).split(' ')[0] ?? loadavg()[0]),
    versions: {
      HAProxy: await version('haproxy -v', /version ([\w.]+)/),
      nginx: await version('nginx -v', /nginx\/([\d.]+)/),
      iperf: await version('iperf3 --version', /iperf ([\d.]+)/),
      wrk: await version('wrk -v', /wrk \S*?([\d.]+)/),
      ...(peer === undefined ? {} : { 'Rust ztunnel': peer }),
    },
  };
}

function say(line: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof TestbedError ? describeTestbedError(error) : String(error)}\n`);
  process.exitCode = 2;
}
