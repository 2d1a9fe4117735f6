// A program that asks again and again, on a new connection each time: the stranger whom a policy denies, and the caller
// from outside the mesh. Arguments: the URL, milliseconds between two calls.
import { setTimeout as delay } from 'node:timers/promises';
import { ask } from './http-caller.ts';

const [url = '', pauseMs = '1000'] = process.argv.slice(2);
for (;;) {
  await ask(url, false);
  await delay(Number(pauseMs));
}
