import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSocketAddress, type SocketAddress } from '@ambit/mesh';
import type { ConnectionRecord, L7Request, RequestRecord } from '@ambit/proxy';
import { spanOf } from './span-of.ts';

const TRACE = '0123456789abcdef0123456789abcdef';
const PARENT = '00f067aa0ba902b7';
const SPAN = 'aaaaaaaaaaaaaaaa';

function at(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  assert.ok(address !== undefined);
  return address;
}

function told(request: Partial<L7Request> = {}, connection: Partial<ConnectionRecord> = {}): RequestRecord {
  return {
    startedAtMs: 1000,
    connection: {
      event: 'progress',
      id: '0-1',
      pod: 'p',
      direction: 'outbound',
      protocol: 'HBONE',
      startedAtMs: 0,
      source: { address: at('10.0.0.1:4000'), identity: 'spiffe://td/ns/shop/sa/web' },
      destination: { address: at('10.0.0.2:15008') },
      originalDestination: at('10.96.0.11:80'),
      service: { namespace: 'shop', name: 'cart', hostname: 'cart.shop.svc' },
      bytesToServer: 0,
      bytesToClient: 0,
      durationMs: 0,
      fresh: { opened: false, bytesToServer: 0, bytesToClient: 0, retransmits: 0, untalliedRequests: 0 },
      ...connection,
    },
    request: {
      protocol: 'http',
      startMs: 1,
      durationMs: 3.5,
      requestBytes: 100,
      responseBytes: 200,
      status: 200,
      requestMessages: 0,
      responseMessages: 0,
      method: 'GET',
      path: '/items',
      authority: 'cart:8080',
      traceparent: `00-${TRACE}-${PARENT}-01`,
      ...request,
    },
  };
}

test('a recorded request is a client span at its source', () => {
  assert.deepEqual(spanOf(told(), SPAN), {
    name: 'GET',
    kind: 'client',
    traceId: TRACE,
    spanId: SPAN,
    parentSpanId: PARENT,
    traceFlags: 1,
    startMs: 1000,
    endMs: 1003.5,
    isError: false,
    attributes: {
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'http.request.size': 100,
      'http.response.size': 200,
      'url.path': '/items',
      'url.scheme': 'http',
      'server.address': 'cart.shop.svc',
      'server.port': 80,
      'network.transport': 'tcp',
      'network.peer.address': '10.0.0.2',
      'network.peer.port': 15008,
      'ambit.source.principal': 'spiffe://td/ns/shop/sa/web',
      'ambit.connection.protocol': 'HBONE',
    },
  });
});

test('and a server span at its destination, with the client and the port that was asked for', () => {
  const span = spanOf(told({}, { direction: 'inbound', service: undefined }), SPAN);
  assert.equal(span?.kind, 'server');
  assert.equal(span?.parentSpanId, PARENT);
  const { attributes } = span ?? { attributes: {} };
  assert.deepEqual(
    ['client.address', 'server.address', 'server.port', 'network.peer.address'].map(name => attributes[name]),
    ['10.0.0.1', 'cart', 8080, '10.0.0.1'],
  );
});

test('gRPC is named by its method and judged by its own status', () => {
  const request = { protocol: 'grpc', path: '/shop.Cart/Add', grpcStatus: 5 } as const;
  const client = spanOf(told(request), SPAN);
  assert.equal(client?.name, 'shop.Cart/Add');
  assert.deepEqual(
    ['rpc.system', 'rpc.service', 'rpc.method', 'rpc.grpc.status_code', 'error.type', 'http.request.method'].map(
      name => client?.attributes[name],
    ),
    ['grpc', 'shop.Cart', 'Add', 5, '5', undefined],
  );
  assert.equal(client?.isError, true);
  // Not found is the client's error; unavailable is the server's too.
  assert.equal(spanOf(told(request, { direction: 'inbound' }), SPAN)?.isError, false);
  assert.equal(spanOf(told({ ...request, grpcStatus: 14 }, { direction: 'inbound' }), SPAN)?.isError, true);
  assert.equal(spanOf(told({ ...request, path: '*' }), SPAN)?.name, 'GET');
});

test('what counts as an error depends on the side that reports', () => {
  const rows: readonly (readonly [Partial<L7Request>, client: string | undefined, server: string | undefined])[] = [
    [{ status: 302 }, undefined, undefined],
    [{ status: 404 }, '404', undefined],
    [{ status: 503 }, '503', '503'],
    [{ status: 0, flags: 'UC' }, 'server_closed', 'server_closed'],
    [{ status: 0, flags: 'DC' }, 'client_closed', undefined],
  ];
  for (const [request, ...expected] of rows) {
    const types = (['outbound', 'inbound'] as const).map(
      direction => spanOf(told(request, { direction }), SPAN)?.attributes['error.type'],
    );
    assert.deepEqual(types, expected, JSON.stringify(request));
  }
});

test('without a recorded trace there is no span', () => {
  for (const traceparent of [
    undefined,
    '',
    `00-${TRACE}-${PARENT}-00`,
    `00-${'0'.repeat(32)}-${PARENT}-01`,
    'x'.repeat(55),
  ]) {
    assert.equal(spanOf(told({ traceparent }), SPAN), undefined, traceparent);
  }
  assert.equal(spanOf(told({ protocol: 'redis' }), SPAN), undefined);
});
