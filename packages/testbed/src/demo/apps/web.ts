// shop/web: asks the cart all the time over a few connections that stay open, and serves a page itself.
// Arguments: the cart's URL, milliseconds between two requests of a connection, the address to listen on.
import { Agent, createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { ask } from './http-caller.ts';

const [url = '', pauseMs = '20', address = '::'] = process.argv.slice(2);
const CONNECTIONS = 4;
const RETRY_MS = 250;

createServer((_request, response) => response.end('Welcome to the shop.\n')).listen(8080, address);

const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
async function drive(): Promise<never> {
  for (;;) {
    const isOk = await ask(url, agent);
    await delay(isOk ? Number(pauseMs) : RETRY_MS);
  }
}
await Promise.all(Array.from({ length: CONNECTIONS }, drive));
