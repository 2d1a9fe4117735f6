// The nodes: many delta clients in one process, as cheap as they can be so that they do not slow what they measure. They
// read messages off plain HTTP/2 and keep only the small ones. Arguments: port, number of clients.
import { type ClientHttp2Stream, connect } from 'node:http2';
import { encodeRequest, DELTA_PATH } from '../packages/control/src/xds/codec-testing.ts';
import { type FromClients, monotonicNs, type ToClients } from './control-messages.ts';

const [port = 0, count = 0] = process.argv.slice(2).map(Number);
const ADDRESS = 'type.googleapis.com/istio.workload.Address';
const MAX_KEPT_BYTES = 256 * 1024;
const WINDOW_BYTES = 4 * 1024 * 1024;

/** What was received at which client, by the bytes of the message that brought it. */
const early: Array<{ readonly client: number; readonly body: Buffer; readonly at: number }> = [];
let expected: string | undefined;
let times: number[] = [];
const syncedAt: number[] = [];
let bytesPerClient = 0;
const startedAt = monotonicNs();
const say = (message: FromClients) => void process.send?.(message);

function received(client: number, body: Buffer, at: number): void {
  if (expected === undefined || !body.includes(expected)) {
    early.push({ client, body, at });
    return;
  }
  times.push(at);
  if (times.length < count) return;
  say({ kind: 'received', at: times });
  expected = undefined;
  times = [];
}

function synced(at: number): void {
  syncedAt.push(at);
  if (syncedAt.length < count) return;
  const ms = syncedAt.map(time => (time - startedAt) / 1e6);
  say({ kind: 'synced', tookMs: Math.max(...ms), firstMs: Math.min(...ms), bytesPerClient });
}

function framed(body: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

/** Cuts messages; the bodies of long ones are only counted. */
function readMessages(stream: ClientHttp2Stream, onMessage: (body: Buffer | undefined, bytes: number) => void): void {
  let head = Buffer.alloc(0);
  let left = 0;
  let kept: Buffer[] | undefined;
  let length = 0;
  stream.on('data', (chunk: Buffer) => {
    for (let rest = chunk; rest.length > 0; ) {
      if (left === 0) {
        const missing = 5 - head.length;
        head = Buffer.concat([head, rest.subarray(0, missing)]);
        rest = rest.subarray(missing);
        if (head.length < 5) return;
        left = length = head.readUInt32BE(1);
        kept = length <= MAX_KEPT_BYTES ? [] : undefined;
        head = Buffer.alloc(0);
      }
      const part = rest.subarray(0, left);
      kept?.push(part);
      left -= part.length;
      rest = rest.subarray(part.length);
      if (left === 0) onMessage(kept === undefined ? undefined : Buffer.concat(kept), length);
    }
  });
}

for (let client = 0; client < count; client++) {
  const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: WINDOW_BYTES } });
  session.once('connect', () => session.setLocalWindowSize(WINDOW_BYTES));
  const stream = session.request({ ':method': 'POST', ':path': DELTA_PATH, 'content-type': 'application/grpc' });
  const id = `ztunnel~10.9.0.${client}~ztunnel-${client}.istio-system~istio-system.svc.cluster.local`;
  stream.write(framed(encodeRequest({ node: { id, NODE_NAME: `node-${client}` }, typeUrl: ADDRESS })));
  let isSynced = false;
  readMessages(stream, (body, bytes) => {
    const at = monotonicNs();
    const nonce = body?.toString('latin1').match(/[0-9a-f]{12}-\d+/)?.[0];
    stream.write(framed(encodeRequest({ typeUrl: ADDRESS, ...(nonce === undefined ? {} : { nonce }) })));
    if (isSynced) received(client, body ?? Buffer.alloc(0), at);
    else {
      isSynced = true;
      bytesPerClient = bytes;
      synced(at);
    }
  });
  for (const part of [session, stream]) {
    part.on('error', (error: Error) => {
      process.stderr.write(`client ${client}: ${error.message}\n`);
      process.exit(1);
    });
  }
}

process.on('message', ({ name }: ToClients) => {
  expected = name;
  for (const { client, body, at } of early.splice(0)) received(client, body, at);
});
process.on('disconnect', () => process.exit(0));
