// Adds up what several runs of Node's test runner, and the checks around them, came to.

import { existsSync, readFileSync } from 'node:fs';

/** A test that did not run, and why. */
export interface Skip {
  readonly file: string;
  readonly name: string;
  readonly reason: string;
}

type Fact =
  | ({ readonly kind: 'skip' } & Skip)
  | {
      readonly kind: 'counts';
      readonly passed: number;
      readonly failed: number;
      readonly cancelled: number;
      readonly skipped: number;
      readonly todo: number;
    };

export class Tally {
  passed = 0;
  failed = 0;
  readonly skips: Skip[] = [];
  /** Skips that a run counted but did not report one by one; none in practice, and never hidden. */
  #unnamed = 0;

  /** Counts one thing that is no test of the runner: a check, or a run that could not even start. */
  add(isGood: boolean): void {
    if (isGood) this.passed++;
    else this.failed++;
  }

  /** Takes in the facts that tools/test-reporter.mjs wrote. A run without its final counts has failed. */
  addRun(tallyPath: string, exitCode: number): void {
    const lines = existsSync(tallyPath) ? readFileSync(tallyPath, 'utf8').split('\n') : [];
    const facts = lines.filter(line => line !== '').map(line => JSON.parse(line) as Fact);
    const failedBefore = this.failed;
    let skipped = 0;
    for (const fact of facts) {
      if (fact.kind === 'skip') {
        this.skips.push(fact);
        skipped--;
        continue;
      }
      this.passed += fact.passed;
      this.failed += fact.failed + fact.cancelled;
      skipped += fact.skipped + fact.todo;
    }
    this.#unnamed += Math.max(0, skipped);
    const hasCounts = facts.some(({ kind }) => kind === 'counts');
    if (!hasCounts || (exitCode !== 0 && this.failed === failedBefore)) this.failed++;
  }

  /** The closing lines: each skip with its reason, then the sum alone on a line. */
  text(): string {
    const skips = this.skips.map(
      ({ file, name, reason }) => `  ${file === '' ? '' : `${file}  `}${name}\n    ${reason}\n`,
    );
    const head = skips.length === 0 ? '' : `\nskipped, and why:\n${skips.join('')}`;
    return `${head}\n${this.passed} passed, ${this.failed} failed, ${this.skips.length + this.#unnamed} skipped\n`;
  }
}
