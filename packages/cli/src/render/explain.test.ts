import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createMatch,
  createService,
  createWorkload,
  type ExplainQuestion,
  explainConnection,
  type Ip,
  MeshState,
  parseIp,
  policyKey,
  type Policy,
} from '@ambit/mesh';
import { renderExplanation } from './explain.ts';
import { COLOUR, PLAIN, styleFor } from './style.ts';

function ip(text: string): Ip {
  const parsed = parseIp(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

const CART = 'shop/cart.shop.svc.cluster.local';
function workload(name: string, address: string, protocol: 'TCP' | 'HBONE', services: readonly string[] = []) {
  return createWorkload({
    uid: `c//Pod/shop/${name}`,
    name,
    namespace: 'shop',
    serviceAccount: name,
    trustDomain: 'cluster.local',
    workloadIps: [ip(address)],
    protocol,
    node: 'n1',
    services: new Map(services.map(key => [key, new Map([[80, 8080]])])),
  });
}

function policy(name: string, action: Policy['action'], match: Parameters<typeof createMatch>[0]): Policy {
  const rules = [[[createMatch(match)]]];
  return { name, namespace: 'shop', scope: 'Namespace', action, dryRun: false, rules };
}

const mesh = new MeshState();
mesh.applyBatch({
  upsertWorkloads: [
    workload('stranger', '10.0.0.1', 'HBONE'),
    workload('web', '10.0.0.2', 'HBONE'),
    workload('outside', '10.0.0.3', 'TCP'),
    workload('cart', '10.0.0.4', 'HBONE', [CART]),
  ],
  upsertServices: [
    createService({
      name: 'cart',
      namespace: 'shop',
      hostname: 'cart.shop.svc.cluster.local',
      vips: [{ network: '', ip: ip('10.96.0.11') }],
      ports: new Map([[80, 8080]]),
    }),
  ],
  upsertPolicies: [
    policy('cart-callers', 'Allow', { serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }] }),
    policy('no-9000', 'Deny', { destinationPorts: [9000] }),
  ].map(each => ({ key: policyKey(each), policy: each })),
});

function render(source: string, destination: string, network: ExplainQuestion['network'] = ''): string {
  return renderExplanation(explainConnection(mesh, { source, destination, network }), PLAIN);
}

test('a denial names the policy first, then the evidence, then what to do', () => {
  assert.equal(
    render('shop/stranger', 'shop/cart:80'),
    `Denied: no rule of policy shop/cart-callers allows it    [policy.no_allow_match]

  source       shop/stranger on n1 · spiffe://cluster.local/ns/shop/sa/stranger
  destination  10.96.0.11:80 is service shop/cart · 1 endpoint · would take
               10.0.0.4:8080
  waypoint     none assigned
  transport    HBONE to 10.0.0.4:15008 (shop/cart), which must be
               spiffe://cluster.local/ns/shop/sa/cart
  policies     DENY   1 looked at, no match
               ALLOW  shop/cart-callers: rule 1 wants service account shop/web

next: allow it in shop/cart-callers if it should be
`,
  );
});

test('what is allowed says which rule allows it', () => {
  const text = render('shop/web', 'shop/cart');
  assert.match(text, /^Allowed: /);
  assert.match(text, /ALLOW {2}shop\/cart-callers rule 1 matches/);
});

test('plain text is not called allowed', () => {
  assert.match(render('shop/web', 'shop/outside:80'), /^Plain text: /);
});

test('an unclear question is answered with the choices and nothing else', () => {
  assert.equal(
    render('shop/wbe', 'shop/cart'),
    `Cannot say: there is no workload shop/wbe                 [explain.unknown_name]

next: did you mean shop/web or shop/cart?
`,
  );
});

test('lines stay within 80 columns as long as no name is longer', () => {
  for (const source of ['shop/stranger', 'shop/web', 'shop/outside']) {
    for (const destination of ['shop/cart', 'shop/outside:80', '192.0.2.1:443', 'shop/web:9000']) {
      for (const line of render(source, destination).split('\n')) assert.ok(line.length <= 80, line);
    }
  }
});

test('control characters of a question do not reach the terminal', () => {
  assert.ok(!render('shop/\u001B[31mweb', 'shop/cart').includes('\u001B'));
});

test('colour is for terminals, and not when NO_COLOR is set', () => {
  assert.equal(styleFor({ isTTY: true }, {}), COLOUR);
  assert.equal(styleFor({ isTTY: true }, { NO_COLOR: '1' }), PLAIN);
  assert.equal(styleFor({}, {}), PLAIN);
  const answer = explainConnection(mesh, { source: 'shop/stranger', destination: 'shop/cart', network: '' });
  const plain = renderExplanation(answer, COLOUR)
    .split('\u001B')
    .map((part, index) => (index === 0 ? part : part.replace(/^\[\d+m/, '')))
    .join('');
  assert.equal(plain, render('shop/stranger', 'shop/cart'));
});
