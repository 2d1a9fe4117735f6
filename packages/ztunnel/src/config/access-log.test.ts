import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAccessLog } from './access-log.ts';
import { EnvReader, type Environment } from './env-reader.ts';

const parse = (env: Environment) => parseAccessLog(new EnvReader(env)).accessLog;

test('the access log is whole and without a limit unless it is told otherwise', () => {
  const { sample, linesPerSecond } = parse({});
  assert.deepEqual([sample, linesPerSecond], [1, Number.POSITIVE_INFINITY]);
  const told = parse({ AMBIT_ACCESS_LOG_SAMPLE: '0.05', AMBIT_ACCESS_LOG_RATE: '200' });
  assert.deepEqual([told.sample, told.linesPerSecond], [0.05, 200]);
  for (const [text, share] of [
    ['0', 0],
    ['1', 1],
    ['1.0', 1],
    ['.5', 0.5],
  ] as const) {
    assert.equal(parse({ AMBIT_ACCESS_LOG_SAMPLE: text }).sample, share);
  }
});

test('what cannot be meant ends the start and says why', () => {
  const rows: readonly (readonly [name: string, value: string, why: RegExp])[] = [
    ['AMBIT_ACCESS_LOG_SAMPLE', '1.1', /AMBIT_ACCESS_LOG_SAMPLE=1\.1 \(expected a share from 0 to 1/],
    ['AMBIT_ACCESS_LOG_SAMPLE', '', /expected a share/],
    ['AMBIT_ACCESS_LOG_SAMPLE', '10%', /expected a share/],
    ['AMBIT_ACCESS_LOG_SAMPLE', '-0', /expected a share/],
    ['AMBIT_ACCESS_LOG_RATE', '0', /at least one line; RUST_LOG=access=off,info/],
    ['AMBIT_ACCESS_LOG_RATE', '9999999', /must be at most 1000000/],
    ['AMBIT_ACCESS_LOG_FILTER', 'faild', /did you mean failed\?/],
  ];
  for (const [name, value, why] of rows) assert.throws(() => parse({ [name]: value }), why, `${name}=${value}`);
});
