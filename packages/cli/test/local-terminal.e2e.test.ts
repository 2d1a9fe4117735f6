// What the commands of one machine do on a terminal that a pipe does not show: a table that is redrawn, a question that waits.
// The terminal is util-linux' script(1).
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const hasScript = spawnSync('script', ['--version']).status === 0;
const skip = sandboxSkip() || (hasScript ? false : 'script is missing: apt install bsdutils');

/** A command, what it has said so far, and what it is told. */
class Session {
  readonly child: ChildProcess;
  said = '';
  #onSaid: (() => void) | undefined;

  constructor(program: string, args: readonly string[]) {
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdout?.on('data', (chunk: Buffer) => {
      // With a sign for the escape character that patterns may hold.
      this.said += chunk.toString('utf8').replaceAll('\u001B', '␛');
      this.#onSaid?.();
    });
  }

  async until(pattern: RegExp): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, 60_000);
    this.#onSaid = () => {
      if (pattern.test(this.said)) resolve();
    };
    this.#onSaid();
    await promise;
    clearTimeout(timer);
    assert.match(this.said, pattern);
  }

  type(text: string): void {
    this.child.stdin?.write(text);
  }

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'close');
    return this.child.exitCode;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended();
  }
}

describe('the mesh of one machine on a terminal', { skip, concurrency: false }, () => {
  let directory = '';
  const words = (...args: readonly string[]) => [MAIN, args[0] ?? '', '--dir', directory, ...args.slice(1)];
  const piped = (...args: readonly string[]) => new Session(process.execPath, words(...args));
  const onTerminal = (...args: readonly string[]) =>
    new Session('script', [
      '-qec',
      `stty rows 30 cols 120; exec ${process.execPath} ${words(...args).join(' ')}`,
      '/dev/null',
    ]);
  const ambit = (...args: readonly string[]) =>
    spawnSync(process.execPath, words(...args), { encoding: 'utf8', timeout: 90_000, input: '' });
  const must = (...args: readonly string[]) => {
    const { status, stdout, stderr } = ambit(...args);
    assert.equal(status, 0, `ambit ${args.join(' ')}\n${stdout}${stderr}`);
    return stdout;
  };

  before(() => {
    directory = mkdtempSync(join(SANDBOX_DIR, 'terminal-'));
    must('up');
  });

  after(() => {
    ambit('down', '--force');
    rmSync(directory, { recursive: true, force: true });
  });

  test('ps --watch redraws its table in place, and Ctrl-C ends it well', async () => {
    const watch = onTerminal('ps', '--watch');
    try {
      await watch.until(/␛\[HNAMESPACE +NAME .*␛\[K\r?\n␛\[J/);
      must('run', '-d', '--name', 'seen', '--', 'sleep', '600');
      await watch.until(/default +seen .* protected/);
      assert.doesNotMatch(watch.said, /\n\n/);
      watch.type('\u0003');
      assert.equal(await watch.ended(), 0);
    } finally {
      await watch.kill();
    }
  });

  test('to a pipe, ps --watch prints a table for each change, and one line of JSON if that is asked for', async () => {
    const [tables, lines] = [piped('ps', '-w'), piped('ps', '-w', '-o', 'json')];
    try {
      await tables.until(/default +seen /);
      await lines.until(/"seen".*\n/);
      must('run', '-d', '--name', 'later', '--', 'sleep', '600');
      await tables.until(/default +seen [^]*\n\nNAMESPACE[^]*default +later .* protected/);
      await lines.until(/\n.*"later".*\n/);
      const listings = lines.said
        .trim()
        .split('\n')
        .map(line => JSON.parse(line) as { workloads: { name: string }[] });
      assert.deepEqual(
        listings.at(0)?.workloads.map(({ name }) => name),
        ['seen'],
      );
      assert.deepEqual(
        listings.at(-1)?.workloads.map(({ name }) => name),
        ['later', 'seen'],
      );
      assert.doesNotMatch(tables.said, /␛/);
      for (const each of [tables, lines]) {
        each.child.kill('SIGINT');
        assert.equal(await each.ended(), 0);
      }
    } finally {
      await Promise.all([tables.kill(), lines.kill()]);
    }
  });

  test('down asks before it ends workloads, and takes nothing but yes for it', async () => {
    for (const no of ['n\r', '\r', 'what?\r', '\u0003', '\u0004']) {
      const down = onTerminal('down');
      try {
        await down.until(
          /These workloads run and would be ended: default\/later, default\/seen\r?\n.*End them\? \[y\/N\] /,
        );
        down.type(no);
        assert.equal(await down.ended(), 1);
        assert.match(down.said, /workloads run here: default\/later, default\/seen {2}\[local\.running\]/);
      } finally {
        await down.kill();
      }
    }
    assert.match(must('ps'), /default +seen .* protected/);
    const down = onTerminal('down');
    try {
      await down.until(/End them\? /);
      down.type('y\r');
      assert.equal(await down.ended(), 0);
      assert.match(down.said, /down, 2 workloads ended/);
    } finally {
      await down.kill();
    }
    assert.equal(ambit('ps').status, 3);
  });
});
