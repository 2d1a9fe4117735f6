// shop/cart: answers with what the store keeps for the order, over one connection to the store that is made again when
// it is lost. Arguments: host and port of the store (no host: it remembers the order itself), the order's token, the
// address to listen on.
import { createServer } from 'node:http';
import { CallReporter } from './reporter.ts';
import { RespClient } from './resp-client.ts';

const [host = '', port = '6379', token = '', address = '::'] = process.argv.slice(2);
const reporter = new CallReporter('shop/db');
let current: Promise<RespClient> | undefined;

async function open(): Promise<RespClient> {
  const client = new RespClient(host, Number(port));
  reporter.watch(client.socket);
  await client.set('order', `${token} 2 lamps, 1 chair`);
  return client;
}

async function load(): Promise<string | undefined> {
  if (host === '') return `${token} 2 lamps, 1 chair`;
  if (current !== undefined && !(await current).isUsable) current = undefined;
  current ??= open();
  const client = await current;
  const start = performance.now();
  const order = await client.get('order');
  reporter.succeeded(performance.now() - start);
  return order;
}

createServer((_request, response) => {
  load().then(
    order => response.end(JSON.stringify({ order })),
    (error: unknown) => {
      current = undefined;
      reporter.failed();
      response.writeHead(503).end(String(error));
    },
  );
}).listen(8080, address);
