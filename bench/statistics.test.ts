import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { figureOf, ratioOf, type Sample, spread } from './statistics.ts';

const sample = (round: number, candidate: 'ambit' | 'rust', value: number): Sample => ({
  round,
  candidate,
  row: 'bulk1',
  figures: { bulk1Cpu: value },
});

describe('statistics of a benchmark', () => {
  test('a median of an even number lies between the two in the middle', () => {
    assert.deepEqual(spread([4, 1, 3, 2]), { median: 2.5, min: 1, max: 4, count: 4 });
    assert.deepEqual(spread([3, 1, 2]), { median: 2, min: 1, max: 3, count: 3 });
    assert.equal(spread([]), undefined);
  });

  test('ratios pair within a round, and leave out rounds that lack one of the two', () => {
    const samples = [
      sample(0, 'ambit', 1),
      sample(0, 'rust', 2),
      sample(1, 'ambit', 30),
      sample(1, 'rust', 10),
      sample(2, 'ambit', 5),
    ];
    assert.deepEqual(ratioOf(samples, 'ambit', 'rust', 'bulk1Cpu'), { median: 1.75, min: 0.5, max: 3, count: 2 });
    assert.equal(figureOf(samples, 'ambit', 'bulk1Cpu')?.median, 5);
    assert.equal(ratioOf(samples, 'ambit', 'direct', 'bulk1Cpu'), undefined);
  });

  test('figures that are not numbers count nowhere', () => {
    assert.equal(figureOf([sample(0, 'ambit', Number.NaN)], 'ambit', 'bulk1Cpu'), undefined);
  });
});
