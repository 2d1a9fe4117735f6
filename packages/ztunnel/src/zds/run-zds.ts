// Wires the ZDS client of shared mode: socket, reactor, supervisor, readiness.
import { systemClock } from '../clock.ts';
import { errorText } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Readiness } from '../readiness.ts';
import type { Supervisor } from '../supervisor.ts';
import type { PodInfo } from '../worker-protocol.ts';
import { MainReactor } from './main-reactor.ts';
import { ZdsClient } from './zds-client.ts';
import { ZdsSocket } from './zds-socket.ts';

const RETRY_PENDING_MS = 5000;

export interface ZdsRunner {
  /** Pods that could not be opened yet; they are tried again. */
  pending(): readonly PodInfo[];
  /** Closes the connection; pods stay as they are. */
  stop(): void;
}

/** Follows the node agent at `path` until stopped; readiness depends on it from the next change on. */
export function runZds(path: string, supervisor: Supervisor, readiness: Readiness, log: Logger): ZdsRunner {
  const reactor = new MainReactor(error => log.error('A socket event failed', [['error', errorText(error)]]));
  const client = new ZdsClient(
    {
      connect: () => new ZdsSocket(path, reactor),
      openPod: async (uid, info, netnsFd) => (await supervisor.openPod({ uid, ...info }, netnsFd))?.message,
      describePod: (uid, info) => supervisor.describePod({ uid, ...info }),
      closePod: uid => supervisor.closePod(uid, 'immediate', 0),
      onReady: isReady => {
        if (isReady) readiness.clear('workload proxy manager');
        else readiness.block('workload proxy manager');
      },
      clock: systemClock,
      random: Math.random,
      log,
    },
    { path, retryPendingMs: RETRY_PENDING_MS },
  );
  client.run().catch((error: unknown) => log.error('The ZDS client ended on a bug', [['error', errorText(error)]]));
  return {
    pending: () =>
      [...client.pods()].flatMap(([uid, { kind, info }]) => (kind === 'pending' ? [{ uid, ...info }] : [])),
    stop: () => {
      client.stop();
      reactor.close();
    },
  };
}
