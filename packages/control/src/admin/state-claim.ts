// Whose a state directory is: his who listens on the socket in it, from before anything there is opened until the end. Two
// processes would take each other's account of certificates away. A socket that nobody answers on is left from a crash.
import { chmod, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { ensureStateDirectory } from '../ca/state-files.ts';
import { ControlError } from '../errors.ts';
import { ADMIN_LIMITS, closed, listening } from './http-doors.ts';

export class StateClaim implements AsyncDisposable {
  readonly #server: Server;
  #listener: RequestListener = (_request, response) => {
    response.writeHead(503, { 'content-type': 'application/json' });
    response.end('{"code":"admin.not_ready","message":"the control plane is starting"}\n');
  };

  private constructor() {
    this.#server = createServer(ADMIN_LIMITS, (request, response) => this.#listener(request, response));
  }

  /** Takes the directory, which is made (0700) if it is not there. @throws ControlError config.state_in_use, ca.state, config.port */
  static async take(directory: string): Promise<StateClaim> {
    await ensureStateDirectory(directory);
    const path = join(directory, 'admin.sock');
    if (await isAnswered(path)) {
      throw new ControlError('config.state_in_use', `another control plane uses the state directory of ${path}`, {
        next: 'stop it, or give this one its own: --state DIR',
      });
    }
    await rm(path, { force: true });
    const claim = new StateClaim();
    // Between bind and chmod the directory's own mode (0700) keeps others out.
    await listening(claim.#server, { path });
    await chmod(path, 0o600);
    return claim;
  }

  /** Answers what is asked on the socket; until then everything is 503. */
  serve(listener: RequestListener): void {
    this.#listener = listener;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closed(this.#server);
  }
}

async function isAnswered(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = connect(path, () => resolve(true));
  probe.once('error', () => resolve(false));
  const isTaken = await promise;
  probe.destroy();
  return isTaken;
}
