import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isL7Chosen, parseL7Choice } from './l7-choice.ts';

test('without a word the setting holds, with one the word, and a port goes before both', () => {
  for (const setting of [true, false]) {
    assert.equal(isL7Chosen(parseL7Choice(undefined), 80, setting), setting);
    assert.equal(isL7Chosen(parseL7Choice('on'), 80, setting), true);
    assert.equal(isL7Chosen(parseL7Choice('off'), 80, setting), false);
    assert.equal(isL7Chosen(parseL7Choice('off, 8080=on'), 8080, setting), true);
    assert.equal(isL7Chosen(parseL7Choice('off, 8080=on'), 80, setting), false);
    assert.equal(isL7Chosen(parseL7Choice('80=off'), 80, setting), false);
    assert.equal(isL7Chosen(parseL7Choice('80=off'), 81, setting), setting);
  }
});

test('words that mean nothing are named and change nothing', () => {
  const choice = parseL7Choice('on,80=maybe,0=off,65536=off,,=on,http');
  assert.deepEqual(choice.unknown, ['80=maybe', '0=off', '65536=off', '=on', 'http']);
  assert.deepEqual([choice.otherwise, choice.ports.size], [true, 0]);
});
