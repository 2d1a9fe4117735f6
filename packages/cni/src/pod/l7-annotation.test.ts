import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeRequest, encodeRequest } from '@ambit/wire';
import { L7_ANNOTATION, l7WishOf, MAX_L7_BYTES } from './l7-annotation.ts';

const pod = (text?: string) => ({ annotations: text === undefined ? {} : { [L7_ANNOTATION]: text } });
const namespace = (text?: string) => ({ name: 'shop', labels: {}, ...pod(text) });

test('the pod speaks before its namespace, and an empty word is one', () => {
  assert.equal(l7WishOf(pod(), namespace()).text, undefined);
  assert.equal(l7WishOf(pod(), undefined).text, undefined);
  assert.equal(l7WishOf(pod(), { name: 'shop', labels: {} }).text, undefined);
  assert.equal(l7WishOf(pod(), namespace(' off,8080=on ')).text, 'off,8080=on');
  assert.equal(l7WishOf(pod('on'), namespace('off')).text, 'on');
  assert.equal(l7WishOf(pod(''), namespace('off')).text, undefined);
});

test('an annotation that is only inherited by the object says nothing', () => {
  class Inheriting {
    [key: string]: string;
  }
  Object.defineProperty(Inheriting.prototype, L7_ANNOTATION, { value: 'on' });
  assert.equal(l7WishOf({ annotations: new Inheriting() }, namespace('off')).text, 'off');
});

test('a text that a packet may not hold is left out, and said', () => {
  const longest = '1'.repeat(MAX_L7_BYTES);
  assert.deepEqual(l7WishOf(pod(longest), undefined), { text: longest, warning: undefined });
  const { text, warning } = l7WishOf(pod(`${longest}é`), namespace('on'));
  assert.equal(text, undefined);
  assert.match(String(warning), /^annotation ambit\.io\/l7 has 130 bytes, more than 128, and is ignored$/);
});

test('the longest text fits a packet beside the longest names', () => {
  const name = 'n'.repeat(253);
  const info = { name, namespace: name, serviceAccount: name, l7: 'x'.repeat(MAX_L7_BYTES) };
  const request = { kind: 'add', uid: '6c1ea6d6-2f0f-4e66-9a9e-6b3b1f3b0d7a', info } as const;
  assert.deepEqual(decodeRequest(encodeRequest(request)), request);
});
