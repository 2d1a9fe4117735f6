// A gRPC server or client of grpc-js, as a process in a pod. `serve PORT`, or `call HOST PORT CALLS STREAMS`: unary calls, of which
// every fiftieth fails, then streams of which every message is echoed twice. The client prints what it counted, as JSON.
import { once } from 'node:events';
import * as grpc from '@grpc/grpc-js';

const STREAM_MESSAGES = 40;
const AT_ONCE = 50;
/** A message of this size is answered by an error. */
const BAD_SIZE = 13;

const same = (value: Buffer): Buffer => value;
const raw = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const ECHO: grpc.ServiceDefinition = {
  Unary: { path: '/test.Echo/Unary', requestStream: false, responseStream: false, ...raw },
  Streams: { path: '/test.Echo/Streams', requestStream: true, responseStream: true, ...raw },
};

async function serve(port: string): Promise<void> {
  const server = new grpc.Server();
  server.addService(ECHO, {
    Unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
      if (call.request.length === BAD_SIZE) callback({ code: grpc.status.NOT_FOUND, details: 'no such thing' });
      else callback(null, call.request);
    },
    Streams: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      call.on('data', (message: Buffer) => {
        call.write(message);
        call.write(message);
      });
      call.on('end', () => call.end());
    },
  });
  const bound = Promise.withResolvers<void>();
  server.bindAsync(`0.0.0.0:${port}`, grpc.ServerCredentials.createInsecure(), error => {
    if (error === null) bound.resolve();
    else bound.reject(error);
  });
  await bound.promise;
  process.stdout.write('listening\n');
}

async function makeCalls(host: string, port: string, calls: number, streams: number): Promise<void> {
  const client = new grpc.Client(`${host}:${port}`, grpc.credentials.createInsecure());
  const unary = async (size: number): Promise<grpc.status> =>
    new Promise(resolve => {
      client.makeUnaryRequest('/test.Echo/Unary', same, same, Buffer.alloc(size), error =>
        resolve(error === null ? grpc.status.OK : error.code),
      );
    });
  const counted = { ok: 0, notFound: 0, others: 0, sent: 0, received: 0 };
  for (let done = 0; done < calls; done += AT_ONCE) {
    const sizes = Array.from({ length: Math.min(AT_ONCE, calls - done) }, (_, i) => (i === 0 ? BAD_SIZE : 20 + i));
    for (const status of await Promise.all(sizes.map(unary))) {
      counted.sent++;
      if (status === grpc.status.OK) counted.ok++;
      else if (status === grpc.status.NOT_FOUND) counted.notFound++;
      else counted.others++;
      if (status === grpc.status.OK) counted.received++;
    }
  }
  for (let i = 0; i < streams; i++) {
    const stream = client.makeBidiStreamRequest('/test.Echo/Streams', same, same);
    stream.on('data', () => counted.received++);
    for (let message = 0; message < STREAM_MESSAGES; message++) stream.write(Buffer.alloc(message * 100));
    counted.sent += STREAM_MESSAGES;
    stream.end();
    const [status] = (await once(stream, 'status')) as [grpc.StatusObject];
    if (status.code === grpc.status.OK) counted.ok++;
    else counted.others++;
  }
  client.close();
  process.stdout.write(`${JSON.stringify(counted)}\n`);
}

const [what = '', ...words] = process.argv.slice(2);
if (what === 'serve') await serve(words[0] ?? '');
else await makeCalls(words[0] ?? '', words[1] ?? '', Number(words[2]), Number(words[3]));
