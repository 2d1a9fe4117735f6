import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Finding, noCounts } from '@ambit/insight';
import type { Edge } from './edges.ts';
import { number, renderDemo, renderTable, tlsText } from './table.ts';
import { News } from './news.ts';
import { type ControlState, type DemoState, type Expected, findings, makeRows, toDocument } from './verdict.ts';

const TLS = { version: 'TLSv1.3', suite: 'TLS_AES_128_GCM_SHA256', group: 'X25519MLKEM768' };
const id = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;

function edge(source: string, destination: string, fields: Partial<Edge>): Edge {
  return {
    source: `shop/${source}`,
    destination: `shop/${destination}`,
    sourceIdentity: undefined,
    destinationIdentity: undefined,
    tunnel: undefined,
    tls: undefined,
    now: undefined,
    encryptedConnections: 0,
    plaintextConnections: 0,
    denied: 0,
    failed: 0,
    policy: undefined,
    reason: undefined,
    bytes: 0,
    ...fields,
  };
}

const secure = (source: string, destination: string): Partial<Edge> => ({
  sourceIdentity: id(source),
  destinationIdentity: id(destination),
  tunnel: 'HBONE',
  tls: TLS,
});
const GOOD: readonly Edge[] = [
  edge('outside', 'web', { tunnel: 'TCP', now: 'plaintext', plaintextConnections: 3 }),
  edge('web', 'cart', { ...secure('web', 'cart'), now: 'encrypted', encryptedConnections: 4 }),
  edge('stranger', 'cart', {
    ...secure('stranger', 'cart'),
    now: 'denied',
    denied: 6,
    policy: 'shop/callers',
    reason: 'policy.denied_by',
  }),
];
const EXPECTED: readonly Expected[] = [
  { source: 'shop/web', destination: 'shop/cart', want: 'encrypted', configured: 'encrypted' },
  { source: 'shop/stranger', destination: 'shop/cart', want: 'denied', configured: 'denied' },
  { source: 'shop/outside', destination: 'shop/web', want: 'plaintext', configured: 'plaintext' },
];
const COUNTS = { packets: 18_204, bytes: 1, readable: 0, markers: 0, unjudged: 0, flows: 2, example: undefined };
const CONTROL = { ...COUNTS, packets: 30, readable: 30, markers: 12 };
const MESH: ControlState = {
  url: 'https://10.61.0.1:15012',
  objects: 'my-shop',
  workloads: 5,
  services: 3,
  policies: 1,
  isEdited: false,
  problems: [],
  failure: undefined,
};

function state(edges: readonly Edge[], between: Partial<typeof COUNTS> = {}): DemoState {
  const calm = { requestsPerSecond: 0, deniedPerSecond: 2, bytesPerSecond: 0, protocols: [], totals: noCounts() };
  const trafficOf = (source: string) =>
    source === 'shop/web'
      ? {
          ...calm,
          totals: { ...noCounts(), requests: 9, requestErrors: 6, bytesToClient: 70 },
          requestsPerSecond: 412.4,
          bytesPerSecond: 70_000,
          statuses: [0, 67, 0, 0, 33],
          p50Ms: 0.412,
          p99Ms: 1900,
        }
      : { ...calm, statuses: [], p50Ms: undefined, p99Ms: undefined };
  const wire = { betweenNodes: { ...COUNTS, ...between }, control: CONTROL };
  const rows = makeRows(edges, EXPECTED, trafficOf);
  return { rows, wire, control: MESH, droppedRecords: 0, fault: undefined, detected: [] };
}

const plain = (width: number) => ({ width, colour: false });

test('a wide table shows everything, the most important first', () => {
  assert.deepEqual(renderTable(state(GOOD).rows, plain(125)), [
    'FROM           TO         SECURITY                   RATE  L7           P50     P99      BYTES  NOTE',
    'shop/web       shop/cart  mTLS  ML-KEM · AES-128   412 /s  33% 5xx  0.41 ms  1.90 s  70.0 kB/s  HBONE, 4 connections',
    'shop/stranger  shop/cart  denied by shop/callers  2.00 /s  –              –       –  0.00 kB/s  6 times, policy.denied_by',
    'shop/outside   shop/web   plaintext, allowed      0.00 /s  –              –       –  0.00 kB/s  caller is not in the mesh',
  ]);
});

test('a narrow table loses the least important columns and never wraps', () => {
  for (const width of [40, 60, 72, 80, 90, 120]) {
    for (const text of renderTable(state(GOOD).rows, plain(width))) {
      assert.ok(text.length <= Math.max(width, 49), `${width}: ${text}`);
    }
  }
  assert.doesNotMatch(renderTable(state(GOOD).rows, plain(72)).join('\n'), /NOTE|P50.*NOTE/);
  assert.match(renderTable(state(GOOD).rows, plain(60))[2] ?? '', /denied by shop\/callers +2\.00 \/s$/);
  assert.match(renderTable(state(GOOD).rows, plain(40))[2] ?? '', /denied by shop\/callers$/);
});

test('colour adds to the words and takes no room', () => {
  const coloured = renderDemo(state(GOOD), { width: 100, colour: true }).join('\n');
  assert.ok(coloured.includes('\u001B[31mdenied by shop/callers'));
  // oxlint-disable-next-line no-control-regex -- that is what is removed
  assert.equal(coloured.replaceAll(/\u001B\[\d+m/g, ''), renderDemo(state(GOOD), plain(100)).join('\n'));
});

test('the proof is one line, with its control below it', () => {
  const text = renderDemo(state(GOOD), plain(100)).join('\n');
  assert.match(text, /^Between the nodes: 18 204 packets, 0 readable\.$/m);
  assert.match(text, /^The same look at the pod outside the mesh: 30 of 30 packets readable\.$/m);
  assert.match(text, /^shop\/stranger {2}spiffe:\/\/cluster\.local\/ns\/shop\/sa\/stranger$/m);
});

test('numbers have three significant digits', () => {
  assert.deepEqual([0.4123, 12.345, 412.4, 18_204].map(number), ['0.41', '12.3', '412', '18 204']);
  assert.equal(tlsText({ ...TLS, group: 'X25519', suite: 'TLS_CHACHA20_POLY1305_SHA256' }), 'mTLS  X25519 · ChaCha20');
});

test('all as it should be: no finding', () => {
  assert.deepEqual(findings(state(GOOD)), []);
  const { clean, edges, proof, control } = toDocument(state(GOOD), {
    mode: 'root',
    store: 'Redis',
    startedAt: '2026-01-01T00:00:00.000Z',
    firstRowSeconds: 2,
    durationSeconds: 9,
  });
  assert.equal(clean, true);
  assert.equal((edges as unknown[]).length, 3);
  assert.equal((proof as { plaintextPackets: number }).plaintextPackets, 0);
  const { isEdited, ...facts } = MESH;
  assert.deepEqual(control, { ...facts, edited: isEdited, failure: null });
});

const [outside, web, stranger] = GOOD as [Edge, Edge, Edge];
for (const [what, broken, code] of [
  [
    'an edge that was plaintext even once',
    state([outside, { ...web, plaintextConnections: 1 }, stranger]),
    'demo.not_encrypted',
  ],
  [
    'an encrypted edge without identities',
    state([outside, { ...web, sourceIdentity: undefined }, stranger]),
    'demo.not_verified',
  ],
  ['an edge that was never seen', state([outside, stranger]), 'demo.not_seen'],
  ['a denial that did not happen', state([outside, web, { ...stranger, denied: 0 }]), 'demo.not_denied'],
  [
    'a denial that let somebody through',
    state([outside, web, { ...stranger, encryptedConnections: 1 }]),
    'demo.not_denied',
  ],
  ['somebody who should not talk', state([...GOOD, edge('web', 'db', { plaintextConnections: 1 })]), 'demo.unexpected'],
  ['a readable packet', state(GOOD, { readable: 1 }), 'demo.wire_readable'],
  ['a capture that missed much', state(GOOD, { unjudged: 400 }), 'demo.no_proof'],
  ['no packet at all', state(GOOD, { packets: 0 }), 'demo.no_proof'],
] as const) {
  test(`${what} is a finding`, () => {
    assert.deepEqual(
      findings(broken).map(finding => finding.code),
      [code],
    );
    assert.match(renderDemo(broken, plain(100)).join('\n'), new RegExp(`finding: .*\\[${code}\\]`));
  });
}

test('a detector that finds nothing where plaintext runs proves nothing', () => {
  const blind = state(GOOD);
  assert.ok(blind.wire);
  const wire = { ...blind.wire, control: { ...CONTROL, markers: 0 } };
  assert.deepEqual(
    findings({ ...blind, wire }).map(({ code }) => code),
    ['demo.no_proof'],
  );
});

test('a control plane that is gone is a finding', () => {
  const gone = { ...state(GOOD), control: { ...MESH, failure: 'connect ECONNREFUSED' } };
  assert.deepEqual(findings(gone), [
    { code: 'demo.no_control_plane', text: 'the control plane does not answer: connect ECONNREFUSED' },
  ]);
});

describe('somebody edited the objects', () => {
  const letIn: Edge = { ...stranger, now: 'encrypted', encryptedConnections: 3 };
  const shutOut: Edge = { ...web, now: 'denied', denied: 4, policy: 'shop/callers', reason: 'policy.denied_by' };
  const expected = EXPECTED.map(each => ({
    ...each,
    configured: ({ encrypted: 'denied', denied: 'encrypted', plaintext: 'plaintext' } as const)[each.want],
  }));
  const edited = (edges: readonly Edge[]): DemoState => ({
    ...state([]),
    rows: makeRows(edges, expected, () => undefined),
    control: { ...MESH, isEdited: true },
  });

  test('who is let through or denied is shown as it is now, and is no finding', () => {
    const lines = renderDemo(edited([outside, shutOut, letIn]), plain(110));
    assert.match(lines[1] ?? '', /^shop\/web +shop\/cart +denied by shop\/callers .*as edited: 4 times, policy\.denie/);
    assert.match(lines[2] ?? '', /^shop\/stranger +shop\/cart +mTLS  ML-KEM .*as edited: HBONE, 3 connections$/);
    assert.ok(lines.some(text => text.startsWith('my-shop was edited: ')));
    assert.deepEqual(findings(edited([outside, shutOut, letIn])), []);
    assert.deepEqual(findings(edited([])), [], 'nobody talks');
  });

  test('plaintext where there must be none is a finding all the same', () => {
    for (const edges of [[{ ...web, plaintextConnections: 1 }], [{ ...letIn, plaintextConnections: 1 }]]) {
      assert.deepEqual(
        findings(edited(edges)).map(({ code }) => code),
        ['demo.not_encrypted'],
      );
    }
  });

  test('what is wrong with the objects is said below the table', () => {
    const broken = { ...edited(GOOD), control: { ...MESH, problems: ['a.yaml:1:2: no  [config.yaml_syntax]'] } };
    assert.ok(renderDemo(broken, plain(110)).includes('objects: a.yaml:1:2: no  [config.yaml_syntax]'));
  });

  test('each change is told once', () => {
    const news = new News();
    assert.deepEqual(news.take(state(GOOD)), []);
    assert.deepEqual(news.take(edited([outside, web, letIn])), [
      'shop/stranger to shop/cart: encrypted, was denied by shop/callers',
    ]);
    assert.deepEqual(news.take(edited([outside, web, letIn])), []);
    const broken = { ...edited([outside, web, stranger]), control: { ...MESH, problems: ['a.yaml:1:2: no'] } };
    assert.deepEqual(news.take(broken), [
      'shop/stranger to shop/cart: denied by shop/callers, was encrypted',
      'objects: a.yaml:1:2: no',
    ]);
    assert.deepEqual(news.take(broken), []);
    assert.deepEqual(news.take(state(GOOD)), ['objects: all of them can be read again']);
  });
});

const FOUND: Finding = {
  code: 'detect.error_shift',
  subject: 'shop/web -> shop/cart:80',
  severity: 'warning',
  text: '33.0 % of requests and connections fail; 0.00 % did before',
  next: 'ambit tap --to shop/cart --failed --l7',
  evidence: {},
  sinceMs: 0,
  lastMs: 0,
};

test('a fault that was found is told with its next step, one that was not is a finding', () => {
  const fault = { injectedMs: 0, foundAfterMs: 2_040, finding: FOUND };
  const found = renderDemo({ ...state(GOOD), fault, detected: [FOUND] }, plain(80)).join('\n');
  assert.match(found, /^injected: shop\/cart answers one request in three with 503; found after 2\.0 s$/m);
  assert.match(found, /^found: shop\/web -> shop\/cart:80 {2}\[detect\.error_shift\]\n.*\n {2}next: ambit tap --to /m);
  assert.equal(found.match(/^found:/gm)?.length, 1);
  const missed = { ...state(GOOD), fault: { injectedMs: 0, foundAfterMs: undefined, finding: undefined } };
  assert.deepEqual(
    findings(missed).map(({ code }) => code),
    ['demo.fault_not_found'],
  );
});
