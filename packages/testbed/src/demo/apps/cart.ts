// shop/cart: answers with what the store keeps for the order, over one connection to the store that is made again when
// it is lost. Arguments: host and port of the store (no host: it remembers the order itself), the order's token, the
// address to listen on.
import { createServer } from 'node:http';
import { FAULT_LASTS_MS } from '../fault.ts';
import { RespClient } from './resp-client.ts';

const [host = '', port = '6379', token = '', address = '::'] = process.argv.slice(2);
let current: Promise<RespClient> | undefined;

async function open(): Promise<RespClient> {
  const client = new RespClient(host, Number(port));
  await client.set('order', `${token} 2 lamps, 1 chair`);
  return client;
}

async function load(): Promise<string | undefined> {
  if (host === '') return `${token} 2 lamps, 1 chair`;
  if (current !== undefined && !(await current).isUsable) current = undefined;
  current ??= open();
  const client = await current;
  return client.get('order');
}

// The fault that the demo makes on purpose: for a while one request in three fails.
let faultEndsMs = 0;
let requests = 0;
process.on('SIGUSR2', () => (faultEndsMs = performance.now() + FAULT_LASTS_MS));

createServer((_request, response) => {
  if (performance.now() < faultEndsMs && ++requests % 3 === 0) {
    response.writeHead(503).end('broken on purpose');
    return;
  }
  load().then(
    order => response.end(JSON.stringify({ order })),
    (error: unknown) => {
      current = undefined;
      response.writeHead(503).end(String(error));
    },
  );
}).listen(8080, address);
