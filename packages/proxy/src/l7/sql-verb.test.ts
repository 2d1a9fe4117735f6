import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import { KnownWords } from './known-words.ts';
import { SQL_VERBS, sqlVerb } from './sql-verb.ts';

function verb(sql: string, isWhole = true): string {
  const bytes = Buffer.from(`..${sql}..`, 'latin1');
  return SQL_VERBS.word(sqlVerb(bytes, 2, bytes.length - 2, isWhole));
}

describe('sqlVerb', () => {
  test('is the first word behind blanks, brackets and comments', () => {
    assert.equal(verb('select 1'), 'SELECT');
    assert.equal(verb(' \r\n\t((Select 1))'), 'SELECT');
    assert.equal(verb('/* app=shop */ -- more\n# and more\n;update t'), 'UPDATE');
    assert.equal(verb('/*!40101 SET NAMES utf8 */'), 'SET');
    assert.equal(verb('/*M!100101 SET a = 1 */'), 'SET');
    assert.equal(verb('COMMIT'), 'COMMIT');
    assert.equal(verb('BEGIN;'), 'BEGIN');
  });

  test('is OTHER for what is unknown, missing or cut off', () => {
    for (const sql of ['', 'selekt 1', '1', '/* open', '-- only', 'INSERTX', '$', 'ALTERATIONSANDMORE']) {
      assert.equal(verb(sql), 'OTHER', sql);
    }
    assert.equal(verb('SET', false), 'OTHER');
    assert.equal(verb('SET a', false), 'SET');
  });
});

describe('KnownWords', () => {
  test('finds each of its words in any case, and nothing else', () => {
    const words = Array.from({ length: 254 }, (_, at) => `W${at}.X`);
    const known = new KnownWords(words);
    for (const [at, word] of words.entries()) {
      const bytes = Buffer.from(word.toLowerCase());
      assert.equal(known.find(bytes, 0, bytes.length), at + 1);
      assert.equal(known.find(bytes, 0, bytes.length - 1), 0);
      assert.equal(known.word(at + 1), word);
      assert.equal(known.numberOf(word), at + 1);
    }
    assert.equal(known.find(Buffer.from('w1\x0ex'), 0, 4), 0);
    assert.equal(known.word(0), 'OTHER');
    assert.equal(known.numberOf('none'), 0);
    assert.throws(() => new KnownWords([...words, 'ONE']), RangeError);
  });
});
