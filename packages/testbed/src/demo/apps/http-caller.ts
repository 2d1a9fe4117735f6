// One HTTP request, timed, whose failure is a result. Shared by the shop's programs.
import { type Agent, get } from 'node:http';
import type { CallReporter } from './reporter.ts';

const TIMEOUT_MS = 5_000;

/** Asks once; true when a 200 came with its whole body. `agent` false: a connection of its own. */
export async function ask(url: string, agent: Agent | false, reporter: CallReporter): Promise<boolean> {
  const start = performance.now();
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const request = get(url, { agent, timeout: TIMEOUT_MS }, response => {
    response.resume();
    response.once('end', () => resolve(response.statusCode === 200 && response.complete));
    response.once('error', () => resolve(false));
  });
  request.once('socket', socket => reporter.watch(socket));
  request.once('timeout', () => request.destroy());
  request.once('error', () => resolve(false));
  request.once('close', () => resolve(false));
  const isOk = await promise;
  if (isOk) reporter.succeeded(performance.now() - start);
  else reporter.failed();
  return isOk;
}
