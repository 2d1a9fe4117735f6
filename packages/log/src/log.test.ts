import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLog } from './log.ts';

const HOSTILE = 'x\n2026-01-01T00:00:00.000Z\terror\tca\tforged\r\u001b[2J\u009b\u2028\u202e';

function written(format: 'plain' | 'json', message: string, field: string): string {
  let text = '';
  const log = createLog({ write: line => (text += line), format, level: 'info', now: () => new Date(0) }, 'control');
  log.warn(message, { code: field, count: 3, absent: undefined });
  return text;
}

test('a line is one line, and nothing in it is for a terminal, whatever a message or a field quotes', () => {
  for (const format of ['plain', 'json'] as const) {
    const text = written(format, HOSTILE, HOSTILE);
    assert.equal(text.indexOf('\n'), text.length - 1, format);
    // In JSON the tabs are escaped, and so is everything that ends a line or is a control of ASCII.
    const unwanted = format === 'plain' ? /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u : /(?!\P{ASCII})\p{Cc}/u;
    assert.doesNotMatch(text.slice(0, -1).replaceAll(format === 'plain' ? '\t' : '', ''), unwanted);
  }
});

test('an ordinary line is as it always was', () => {
  assert.equal(
    written('plain', 'Client gone', 'a b'),
    '1970-01-01T00:00:00.000Z\twarn\tcontrol\tClient gone\tcode="a b" count=3\n',
  );
});
