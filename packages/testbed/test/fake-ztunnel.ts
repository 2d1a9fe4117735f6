// A process that enrols pods like a ztunnel and carries no traffic, to test how a bed starts and watches one. Prints its
// environment as JSON, then each request. FAKE=mute never becomes ready, FAKE=die ends at once, FAKE=refuse refuses pods.
import { createServer } from 'node:http';
import { Reactor } from '@ambit/native';
import { FakeProxy } from '../../cni/test/fake-proxy.ts';

const how = process.env['FAKE'] ?? '';
process.stdout.write(`${JSON.stringify(process.env)}\n`);
if (how === 'die') {
  process.stderr.write('out of luck\n');
  process.exit(3);
}
process.once('SIGTERM', () => {
  process.stdout.write('draining\n');
  process.exit(0);
});

let isReady = false;
createServer((_request, response) => {
  response.writeHead(isReady ? 200 : 500).end(isReady ? 'ready\n' : 'not ready, pending: patience\n');
}).listen(15021);

const reactor = new Reactor();
const proxy = new FakeProxy(reactor, process.env['INPOD_UDS'] ?? '');
const answering = (async () => {
  for (;;) {
    const { request } = await proxy.next();
    process.stdout.write(`request ${request.kind}\n`);
    if (request.kind === 'add' && how === 'refuse') proxy.ack('no room');
    else proxy.ack();
    isReady ||= request.kind === 'snapshotSent' && how !== 'mute';
  }
})();
const polling = (async () => {
  for (;;) await reactor.pollAsync(-1);
})();
await Promise.all([answering, polling]);
