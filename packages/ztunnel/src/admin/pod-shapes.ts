// `workloadState` of config_dump: the pods that this proxy serves, how far they are, and their live connections, which the
// data workers know. A worker that is busy for longer than a second is left out; so are connections past a bound.
import type { PodInfo } from '../worker-protocol.ts';
import type { ConnectionShape } from './live-connections.ts';
import type { Shape } from './mesh-shapes.ts';
import type { AskWorkers } from './worker-questions.ts';

export interface PodReport {
  readonly pod: PodInfo;
  /** Upstream knows the first two; a draining pod has left the node agent's list and keeps connections that are not over. */
  readonly state: 'Pending' | 'Up' | 'Draining';
}

const ANSWER_MS = 1000;
/** Of one worker. */
const MAX_CONNECTIONS = 5000;

interface Connections {
  readonly inbound: ConnectionShape[];
  readonly outbound: ConnectionShape[];
}

/** By uid of the pod. */
export async function podShapes(pods: readonly PodReport[], workers: AskWorkers): Promise<Shape> {
  const answers =
    pods.length === 0 ? [] : await workers.ask({ kind: 'connections', limit: MAX_CONNECTIONS }, ANSWER_MS);
  const byPod = new Map<string, Connections>();
  for (const { answer } of answers) {
    if (answer.kind !== 'connections') continue;
    for (const { uid, inbound, outbound } of answer.pods) {
      const all = byPod.get(uid) ?? { inbound: [], outbound: [] };
      byPod.set(uid, all);
      all.inbound.push(...inbound);
      all.outbound.push(...outbound);
    }
  }
  // A pod that came back under its uid stands for its former self too: the present one is told last.
  const former = pods.filter(({ state }) => state === 'Draining');
  const present = pods.filter(({ state }) => state !== 'Draining');
  return Object.fromEntries(
    [...former, ...present].map(({ pod, state }) => [
      pod.uid,
      {
        connections: state === 'Pending' ? undefined : (byPod.get(pod.uid) ?? { inbound: [], outbound: [] }),
        info: { name: pod.name, namespace: pod.namespace, serviceAccount: pod.serviceAccount },
        state,
      },
    ]),
  );
}
