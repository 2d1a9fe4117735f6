import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { H2_ERROR } from './frames.ts';
import { RequestRules, ResponseRules } from './header-rules.ts';

type Field = readonly [name: string, value: string];

const CONNECT: readonly Field[] = [
  [':method', 'CONNECT'],
  [':authority', '10.0.0.7:8080'],
];

// The message of the fault, or '' when the list is accepted.
function requestProblem(fields: readonly Field[]): string {
  const rules = new RequestRules();
  for (const [name, value] of fields) rules.header(name, value);
  const ruling = rules.finish(5);
  if (ruling.kind === 'ok') return '';
  assert.equal(ruling.fault.scope, 'stream');
  assert.equal(ruling.fault.code, H2_ERROR.PROTOCOL_ERROR);
  assert.equal(ruling.fault.streamId, 5);
  return ruling.fault.message;
}

function responseProblem(fields: readonly Field[]): string {
  const rules = new ResponseRules();
  for (const [name, value] of fields) rules.header(name, value);
  const ruling = rules.finish(5);
  return ruling.kind === 'ok' ? '' : ruling.fault.message;
}

describe('request headers', () => {
  test('a CONNECT request gives the fields a proxy reads', () => {
    const rules = new RequestRules();
    const fields: Field[] = [
      ...CONNECT,
      ['baggage', 'k8s.namespace.name=shop'],
      ['forwarded', 'for="10.0.0.1:4000";host=cart.shop.svc'],
      ['traceparent', '00-0123456789abcdef0123456789abcdef-0123456789abcdef-00'],
      ['x-forwarded-network', 'net1'],
      ['user-agent', 'x'],
      ['baggage', 'service.name=cart'],
      ['forwarded', 'for=second'],
    ];
    for (const [name, value] of fields) rules.header(name, value);
    assert.deepEqual(rules.finish(1), {
      kind: 'ok',
      head: {
        method: 'CONNECT',
        authority: '10.0.0.7:8080',
        forwarded: 'for="10.0.0.1:4000";host=cart.shop.svc',
        baggage: ['k8s.namespace.name=shop', 'service.name=cart'],
        traceparent: '00-0123456789abcdef0123456789abcdef-0123456789abcdef-00',
        xForwardedNetwork: 'net1',
      },
    });
  });

  test('reset forgets a request, its problem included', () => {
    const rules = new RequestRules();
    rules.header(':method', 'CONNECT');
    rules.header('Bad', 'x');
    assert.equal(rules.finish(1).kind, 'malformed');
    rules.reset();
    rules.header(':method', 'CONNECT');
    const ruling = rules.finish(3);
    assert.equal(ruling.kind, 'ok');
    assert.equal(ruling.kind === 'ok' && ruling.head.authority, undefined);
  });

  test('a list once handed out is not changed by the next request', () => {
    const rules = new RequestRules();
    rules.header(':method', 'CONNECT');
    rules.header('baggage', 'a=1');
    const ruling = rules.finish(1);
    rules.reset();
    rules.header('baggage', 'b=2');
    assert.deepEqual(ruling.kind === 'ok' && ruling.head.baggage, ['a=1']);
  });

  test('another method passes when it is well formed, for the owner to refuse', () => {
    const get: Field[] = [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/'],
    ];
    assert.equal(requestProblem(get), '');
    assert.notEqual(requestProblem(get.slice(0, 2)), '');
    assert.notEqual(requestProblem([...get, [':path', '/2']]), '');
  });

  const refused: [why: string, fields: Field[]][] = [
    ['no :method', [[':authority', 'a:1']]],
    ['no header at all', []],
    ['two :method', [...CONNECT, [':method', 'CONNECT']]],
    ['two :authority', [...CONNECT, [':authority', 'b:1']]],
    [':scheme on CONNECT', [...CONNECT, [':scheme', 'https']]],
    [':path on CONNECT', [...CONNECT, [':path', '/']]],
    [':protocol', [...CONNECT, [':protocol', 'websocket']]],
    [':status', [...CONNECT, [':status', '200']]],
    [
      'pseudo-header after a regular one',
      [
        [':method', 'CONNECT'],
        ['a', 'b'],
        [':authority', 'a:1'],
      ],
    ],
    ['upper-case name', [...CONNECT, ['Forwarded', 'x']]],
    ['empty name', [...CONNECT, ['', 'x']]],
    ['space in a name', [...CONNECT, ['a b', 'x']]],
    ['byte over 0x7f in a name', [...CONNECT, ['caf\u00e9', 'x']]],
    ['connection', [...CONNECT, ['connection', 'close']]],
    ['transfer-encoding', [...CONNECT, ['transfer-encoding', 'chunked']]],
    ['te other than trailers', [...CONNECT, ['te', 'gzip']]],
    ['newline in a value', [...CONNECT, ['a', 'b\r\nc: d']]],
    ['NUL in a value', [...CONNECT, ['a', 'b\0']]],
    ['NUL in :authority', [CONNECT[0] ?? ['', ''], [':authority', 'a\0:1']]],
    ['leading blank', [...CONNECT, ['a', ' b']]],
    ['trailing tab', [...CONNECT, ['a', 'b\t']]],
    ['method that is no token', [[':method', 'CON NECT']]],
  ];
  for (const [why, fields] of refused) {
    test(`a request is malformed with ${why}`, () => assert.notEqual(requestProblem(fields), ''));
  }

  test('te trailers, empty values, inner blanks and bytes over 0x7f are well formed', () => {
    assert.equal(
      requestProblem([...CONNECT, ['te', 'trailers'], ['baggage', ''], ['a', 'b \t c'], ['d', '\u00ff']]),
      '',
    );
  });
});

describe('response headers', () => {
  test('status and baggage are read', () => {
    const rules = new ResponseRules();
    rules.header(':status', '200');
    rules.header('baggage', 'service.name=db');
    assert.deepEqual(rules.finish(1), { kind: 'ok', head: { status: 200, baggage: ['service.name=db'] } });
  });

  const refused: [why: string, fields: Field[]][] = [
    ['no :status', [['a', 'b']]],
    [
      'two :status',
      [
        [':status', '200'],
        [':status', '200'],
      ],
    ],
    ['four digits', [[':status', '2000']]],
    ['a sign', [[':status', '+20']]],
    ['a letter', [[':status', '2a0']]],
    ['a character below the digits', [[':status', '9/9']]],
    ['000', [[':status', '000']]],
    ['101', [[':status', '101']]],
    [
      'a request pseudo-header',
      [
        [':status', '200'],
        [':path', '/'],
      ],
    ],
    [
      ':status after a regular header',
      [
        ['a', 'b'],
        [':status', '200'],
      ],
    ],
    [
      'keep-alive',
      [
        [':status', '200'],
        ['keep-alive', '1'],
      ],
    ],
  ];
  for (const [why, fields] of refused) {
    test(`a response is malformed with ${why}`, () => assert.notEqual(responseProblem(fields), ''));
  }
});
