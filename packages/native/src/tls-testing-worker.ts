// A worker thread of handshake.test.ts: shakes hands with itself and reports how often that went well.
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { Slab } from './slab.ts';
import { TlsContext, type TlsMaterial } from './tls-context.ts';
import { connectSessions, receiveText, sendText } from '../test/tls-testing.ts';

const material = workerData as { readonly client: TlsMaterial; readonly server: TlsMaterial };
const slab = Slab.allocate(1000);
let good = 0;
for (let i = 0; i < 20; i++) {
  using sessions = connectSessions(TlsContext.client(material.client), TlsContext.server(material.server));
  sendText(sessions.client.records, sessions.pair.client, slab, `message ${i}`);
  assert.equal(receiveText(sessions.server.records, sessions.pair.server, slab), `message ${i}`);
  good++;
}
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a MessagePort, not a window
parentPort?.postMessage(good);
