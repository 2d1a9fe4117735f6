import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLAIN } from './style.ts';
import { type TapEvent, tapLine } from './tap-line.ts';

/** As it arrives: JSON. */
const REQUEST = JSON.parse(`{"kind":"request","startedAtMs":0,
  "connection":{"direction":"outbound","source":{"address":{"ip":"10.0.0.1","port":1},"workload":{"namespace":"shop","workloadName":"web"}},
    "destination":{"address":{"ip":"10.0.0.2","port":1},"workload":{"namespace":"shop","workloadName":"cart"}},"tls":{"version":"TLSv1.3"}},
  "request":{"protocol":"http","status":503,"method":"GET","path":"/a/path/that/is/long/enough/to/be/cut","durationMs":1.25,"requestBytes":10,"responseBytes":20}}`) as TapEvent;
const DENIED =
  JSON.parse(`{"kind":"connection","event":"refused","startedAtMs":0,"durationMs":2,"direction":"inbound","protocol":"HBONE",
  "source":{"address":{"ip":"10.0.0.1","port":1}},"destination":{"address":{"ip":"10.0.0.2","port":1},"workload":{"namespace":"shop","workloadName":"cart"}},
  "reason":"policy.denied_by","policy":"shop/no\\u001b[31m","bytesToServer":0,"bytesToClient":0}`) as TapEvent;

test('80 columns cut the path and leave out what matters least', () => {
  assert.equal(
    tapLine(REQUEST, PLAIN, 80),
    '00:00:00 shop/web             -> shop/cart            503    GET /a/path/that/i…',
  );
});

test('140 columns have everything', () => {
  const line = tapLine(REQUEST, PLAIN, 140);
  assert.match(line, /503 +GET \/a\/path\/that\/is\/long\/enough\/to\/be\/cut 1\.25 ms 10 B out 20 B in/);
  assert.ok(line.length <= 140);
});

test('a denial names its reason and policy, and control characters stay away', () => {
  const line = tapLine(DENIED, PLAIN, 140);
  assert.match(line, /10\.0\.0\.1 +=> shop\/cart +denied \[policy\.denied_by\] shop\/no\?\[31m/);
  assert.ok(tapLine(DENIED, PLAIN, 80).length <= 80);
});

test('what was dropped is said', () => {
  assert.match(tapLine({ kind: 'dropped', count: 7 }, PLAIN, 80), /^7 events were dropped/);
});
