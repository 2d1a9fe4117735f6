// `ambit explain` and `ambit get` against admin ports as a control plane and a ztunnel serve them: real HTTP, the answers
// encoded by the same wire package that a control plane uses.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import {
  Action,
  type AddressInit,
  addressToJson,
  type AuthorizationInit,
  authorizationToJson,
  decodeAddressMessage,
  decodeAuthorizationMessage,
  encodeAddress,
  encodeAuthorization,
  Scope,
  TunnelProtocol,
} from '@ambit/wire/resources';
import { explain } from '../src/commands/explain.ts';
import { get } from '../src/commands/get.ts';
import type { Output } from '../src/render/output.ts';
import { PLAIN } from '../src/render/style.ts';

const CART = 'shop/cart.shop.svc.cluster.local';

function workload(name: string, last: number, services: readonly string[] = []): AddressInit {
  return {
    type: {
      case: 'workload',
      value: {
        uid: `Kubernetes//Pod/shop/${name}-1`,
        name: `${name}-1`,
        namespace: 'shop',
        workloadName: name,
        serviceAccount: name,
        addresses: [Uint8Array.of(10, 0, 0, last)],
        tunnelProtocol: TunnelProtocol.HBONE,
        services: Object.fromEntries(services.map(key => [key, { ports: [{ servicePort: 80, targetPort: 8080 }] }])),
      },
    },
  };
}

const SERVICE: AddressInit = {
  type: {
    case: 'service',
    value: {
      name: 'cart',
      namespace: 'shop',
      hostname: 'cart.shop.svc.cluster.local',
      addresses: [{ network: '', address: Uint8Array.of(10, 96, 0, 1) }],
      ports: [{ servicePort: 80, targetPort: 8080 }],
    },
  },
};
const POLICY: AuthorizationInit = {
  name: 'callers',
  namespace: 'shop',
  scope: Scope.NAMESPACE,
  action: Action.ALLOW,
  groups: [{ rules: [{ matches: [{ serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }] }] }] }],
};

const entry = (name: string, resource: unknown): object => ({ name, version: '0', aliases: [], resource });
const address = (name: string, init: AddressInit): object =>
  entry(name, addressToJson(decodeAddressMessage(encodeAddress(init))));

const ANSWERS: Readonly<Record<string, unknown>> = {
  '/debug/addresses': [
    address('web', workload('web', 1)),
    address('other', workload('other', 2)),
    address('cart', workload('cart', 3, [CART])),
    address(CART, SERVICE),
    entry('broken', { workload: { uid: 'x', tunnelProtocol: 'NO_SUCH' } }),
  ],
  '/debug/authorizations': [
    entry('shop/callers', authorizationToJson(decodeAuthorizationMessage(encodeAuthorization(POLICY)))),
  ],
  '/debug/certificates': [
    {
      identity: 'spiffe://cluster.local/ns/shop/sa/web',
      serial: 'ab',
      notBefore: '2020-01-01T00:00:00Z',
      notAfter: '2020-01-02T00:00:00Z',
      node: 'n1',
      revoked: false,
    },
  ],
  '/config_dump': {
    config: { network: '' },
    workloads: [
      {
        uid: 'a',
        name: 'web-1',
        namespace: 'shop',
        serviceAccount: 'web',
        protocol: 'HBONE',
        workloadIps: ['10.0.0.1'],
      },
      {
        uid: 'b',
        name: 'cart-1',
        namespace: 'shop',
        serviceAccount: 'cart',
        protocol: 'HBONE',
        workloadIps: ['10.0.0.2'],
      },
    ],
    services: [
      {
        name: 'cart',
        namespace: 'shop',
        hostname: 'cart.shop.svc.cluster.local',
        vips: ['/10.96.0.1'],
        ports: { 80: 8080 },
        endpoints: { b: { port: { 80: 8080 }, status: 'Healthy', workloadUid: 'b' } },
      },
    ],
    policies: [
      {
        name: 'no-8080',
        namespace: 'shop',
        scope: 'Namespace',
        action: 'Deny',
        dryRun: false,
        rules: [[[{ destinationPorts: [8080], notPrincipals: [{ Suffix: '/sa/admin' }] }]]],
      },
    ],
    certificates: [
      {
        identity: 'spiffe://cluster.local/ns/shop/sa/cart',
        state: 'Available',
        certChain: [{ serialNumber: '7', validFrom: '2026-01-01T00:00:00Z', expirationTime: '2026-01-02T00:00:00Z' }],
      },
    ],
  },
};

interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command against the admin port and catches what it writes. */
async function run(command: (base: string, output: Output) => Promise<number>): Promise<Outcome> {
  const server = createServer((request, response) => {
    const answer = ANSWERS[request.url ?? ''];
    response.writeHead(answer === undefined ? 404 : 200).end(JSON.stringify(answer));
  });
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve);
  });
  // The server listens on TCP, so its address is one.
  const { port } = server.address() as AddressInfo;
  const written = { out: '', err: '' };
  const output: Output = {
    style: PLAIN,
    answer: text => {
      written.out += text;
    },
    remark: text => {
      written.err += text;
    },
  };
  try {
    const status = await command(`http://127.0.0.1:${port}`, output);
    return { status, ...written };
  } finally {
    server.closeAllConnections();
    await new Promise(resolve => {
      server.close(resolve);
    });
  }
}

test('explain answers from a control plane, and says what it could not read', async () => {
  const ok = await run((base, output) => explain('shop/web', 'shop/cart', { address: base, output: 'table' }, output));
  assert.deepEqual([ok.status, ok.out.split(':')[0]], [0, 'Allowed']);
  assert.match(ok.err, /^warning: broken cannot be read/);
  const no = await run((base, output) => explain('shop/other', 'shop/cart', { address: base, output: 'json' }, output));
  assert.equal(no.status, 1);
  assert.match(no.out, /"reason": "policy.no_allow_match"/);
  const what = await run((base, output) =>
    explain('shop/wbe', 'shop/cart', { address: base, output: 'table' }, output),
  );
  assert.deepEqual([what.status, /did you mean shop\/web/.test(what.out)], [2, true]);
});

test('explain answers from the dump of a ztunnel', async () => {
  const { status, out } = await run((base, output) =>
    explain('shop/web-1', 'shop/cart', { ztunnel: base, output: 'table' }, output),
  );
  assert.equal(status, 1);
  assert.match(out, /^Denied: policy shop\/no-8080 denies it/);
});

test('what cannot be reached or understood is status 3 with something to try', async () => {
  const closed = await run((_, output) =>
    explain('a/b', 'c/d', { address: 'http://127.0.0.1:1', output: 'table' }, output),
  );
  assert.equal(closed.status, 3);
  assert.match(closed.err, /^error: cannot reach http:\/\/127\.0\.0\.1:1\/.*\[cli\.unreachable\]\n {2}next/);
  const wrong = await run((base, output) =>
    explain('a/b', 'c/d', { ztunnel: `${base}/nowhere/`, output: 'table' }, output),
  );
  assert.notEqual(wrong.status, 3);
  const noAddress = await run((_, output) => get('workloads', { address: 'nonsense', output: 'table' }, output));
  assert.equal(noAddress.status, 3);
});

test('get lists every kind, of one namespace if asked', async () => {
  const workloads = await run((base, output) => get('workloads', { address: base, output: 'table' }, output));
  assert.equal(workloads.status, 0);
  assert.match(workloads.out, /^WORKLOAD +ADDRESS.*\nshop\/cart-1 +10\.0\.0\.3 /);
  const services = await run((base, output) => get('services', { address: base, output: 'wide' }, output));
  assert.match(services.out, /shop\/cart +10\.96\.0\.1 +80:8080 +1\/1 +none +shop\/cart\.shop/);
  const policies = await run((base, output) =>
    get('policies', { address: base, output: 'table', namespace: 'none' }, output),
  );
  assert.equal(policies.out.trim().split('\n').length, 1);
  const certificates = await run((base, output) => get('certificates', { address: base, output: 'table' }, output));
  assert.match(certificates.out, /sa\/web +expired +2020-01-02T00:00:00Z +n1/);
  const held = await run((base, output) => get('certificates', { ztunnel: base, output: 'table' }, output));
  assert.match(held.out, /sa\/cart +Available/);
});

test('get prints JSON with the maps in it', async () => {
  const { out } = await run((base, output) => get('services', { address: base, output: 'json' }, output));
  const [service] = JSON.parse(out) as readonly { readonly ports: unknown }[];
  assert.deepEqual(service?.ports, { 80: 8080 });
});

test('wrong usage is status 2', async () => {
  assert.equal((await run((base, output) => get('pods', { address: base, output: 'table' }, output))).status, 2);
  assert.equal((await run((base, output) => get('services', { address: base, output: 'xml' }, output))).status, 2);
  assert.equal((await run((base, output) => explain('a', 'b', { address: base, output: 'xml' }, output))).status, 2);
});
