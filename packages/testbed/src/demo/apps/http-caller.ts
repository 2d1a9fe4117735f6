// One HTTP request, whose failure is a result. Shared by the shop's programs.
import { type Agent, get } from 'node:http';

const TIMEOUT_MS = 5_000;

/** Asks once; true when a 200 came with its whole body. `agent` false: a connection of its own. */
export async function ask(url: string, agent: Agent | false): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const request = get(url, { agent, timeout: TIMEOUT_MS }, response => {
    response.resume();
    response.once('end', () => resolve(response.statusCode === 200 && response.complete));
    response.once('error', () => resolve(false));
  });
  request.once('timeout', () => request.destroy());
  request.once('error', () => resolve(false));
  request.once('close', () => resolve(false));
  return promise;
}
