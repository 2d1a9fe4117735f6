// The host's rules for the kubelet's probes, begun with patience, since a kubelet may start later than the agent.
import { setTimeout as delay } from 'node:timers/promises';
import { errorText, type Log } from '@ambit/log';
import { HostProbes, type HostProbesOptions } from '../../host/host-probes.ts';

const TRIES = 11;
const BETWEEN_TRIES_MS = 2_000;

/** @throws CniError enrol.probes after a while */
export async function startNodeProbes(options: HostProbesOptions, log: Log, signal: AbortSignal): Promise<HostProbes> {
  for (let tries = 1; ; tries++) {
    try {
      return HostProbes.start(options);
    } catch (error) {
      if (tries === TRIES || signal.aborted) throw error;
      log.warn('The rules for probes cannot be made yet', { error: errorText(error), tries });
      await delay(BETWEEN_TRIES_MS, undefined, { signal });
    }
  }
}
