// Whether another agent follows this one, which then finds the plugin and the node's rules as they are: an upgrade, a restart of
// the node. Otherwise they are taken away. Without an answer they stay: a plugin left behind keeps members from starting
// unprotected, one taken away too early lets them.
import { setTimeout as delay } from 'node:timers/promises';
import { errorText, type Log } from '@ambit/log';
import type { KubernetesPodSource } from '../../sources/kubernetes-source.ts';

export interface SuccessionOptions {
  /** AMBIENT_DISABLE_SAFE_UPGRADE: always take away. */
  readonly alwaysLeaves: boolean;
  /** The DaemonSet of agents. */
  readonly daemonSet: { readonly namespace: string; readonly name: string };
}

const TRIES = 3;
const BETWEEN_TRIES_MS = 1_000;

/** Never rejects. */
export async function leavesForGood(
  cluster: Pick<KubernetesPodSource, 'daemonSet'> | undefined,
  { alwaysLeaves, daemonSet }: SuccessionOptions,
  log: Log,
): Promise<boolean> {
  if (alwaysLeaves) return true;
  if (cluster === undefined) return false;
  for (let tries = 1; ; tries++) {
    try {
      const state = await cluster.daemonSet(daemonSet);
      log.info('Looked whether another agent follows', { daemonSet: daemonSet.name, state });
      return state !== 'stays';
    } catch (error) {
      log.warn('Cannot find out whether another agent follows', { error: errorText(error), tries });
      if (tries === TRIES) return false;
      await delay(BETWEEN_TRIES_MS);
    }
  }
}
