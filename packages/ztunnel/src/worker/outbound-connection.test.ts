// A connection that is handed to another worker before its peer has answered. Whole tunnels on the move are tested in
// @ambit/proxy; here the stream's tunnel is no more than what a stream asks of it before it opens.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SocketAddress } from '@ambit/mesh';
import { listenTcp, openTcp, startConnect } from '@ambit/native';
import { Engine, MemoryBudget, type Tunnel, TunnelStream, UNOWNED } from '@ambit/proxy';
import { parseConfig } from '../config.ts';
import { WorkerDns } from '../dns/worker-dns.ts';
import { SOCKS_REPLY, socksReply } from '../socks/negotiation.ts';
import { workerSettings } from '../worker-settings.ts';
import { CertificateStore } from './certificate-store.ts';
import type { VoiceName } from './client-voice.ts';
import { HostNames } from './host-names.ts';
import { L7Desk } from './l7-desk.ts';
import { OutboundConnection } from './outbound-connection.ts';
import { PodProxy } from './pod-proxy.ts';
import { Revocations } from './revocations.ts';

const config = parseConfig({ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'shop/web/web' }, { cores: 1 });
const settings = workerSettings(config, { opens: false, queries: false });
const DESTINATION = { ip: '192.0.2.1', port: 80 } as SocketAddress;

/** Whether the client of a stream that was handed over while it was requested is told of the answer: the bytes for it. */
function greetedAfterMove(voice: VoiceName | undefined): number {
  const engine = new Engine(new MemoryBudget(1 << 24));
  const dns = new WorkerDns({ engine, settings: undefined, tell: () => undefined });
  const connections: OutboundConnection[] = [];
  const pod = new PodProxy({ uid: 'u', name: 'web', namespace: 'shop', serviceAccount: 'web' }, undefined, {
    engine,
    settings,
    certificates: new CertificateStore({ records: 'own' }, () => undefined),
    revocations: new Revocations(),
    askOutbound: () => undefined,
    askInbound: () => undefined,
    emit: () => undefined,
    nextId: () => '0-1',
    dns,
    l7: new L7Desk({
      engine,
      settings: { isOn: false, method: false, path: false },
      onRequest: () => undefined,
      openSniffer: () => assert.fail('nothing is read'),
      thawSniffer: () => assert.fail('nothing is read'),
      pathTemplate: path => path,
    }),
    hosts: new HostNames({ resolve: () => undefined, nowMs: () => 0 }, { ipv6: false }),
    onNoFds: () => undefined,
    onClosed: () => undefined,
  });
  const { track } = pod;
  pod.track = connection => {
    if (connection instanceof OutboundConnection) connections.push(connection);
    track.call(pod, connection);
  };
  const { fd: listener, port } = listenTcp({ address: '127.0.0.1', port: 0, backlog: 1 });
  const client = openTcp('ipv4');
  startConnect(client, { ip: '127.0.0.1', port });
  try {
    OutboundConnection.begin(pod, client, DESTINATION, voice);
    const context: unknown = structuredClone(connections[0]?.freeze());
    const tunnel = { engine, peerInitialWindow: 65_535, settings: settings.clientTunnel };
    const stream = new TunnelStream(tunnel as unknown as Tunnel, 1, UNOWNED);
    OutboundConnection.thaw(pod, stream, context).onResponse(stream, 200);
    return stream.pendingBytes;
  } finally {
    listener.close();
    client.close();
    dns.close();
    engine.close();
  }
}

test('a client of the SOCKS5 port hears that its target was reached, though another worker hears of it', () => {
  assert.equal(greetedAfterMove('socks5'), socksReply(SOCKS_REPLY.succeeded).length);
  assert.equal(greetedAfterMove('canary'), 0);
  assert.equal(greetedAfterMove(undefined), 0);
});
