// A program that asks again and again, on a new connection each time: the stranger whom a policy denies, and the caller
// from outside the mesh. Arguments: who is called, the URL, milliseconds between two calls.
import { setTimeout as delay } from 'node:timers/promises';
import { ask } from './http-caller.ts';
import { CallReporter } from './reporter.ts';

const [to = '', url = '', pauseMs = '1000'] = process.argv.slice(2);
const reporter = new CallReporter(to);
for (;;) {
  await ask(url, false, reporter);
  await delay(Number(pauseMs));
}
