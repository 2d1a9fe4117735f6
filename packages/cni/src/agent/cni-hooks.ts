// The agent's answers to what the CNI plugin asks: is this pod a member, let it in, is it still as it should be.
import { podName } from '../pod/agent-pod.ts';
import type { RedirectBackend } from '../redirect/redirect-plan.ts';
import type { ZdsServer } from '../zds/zds-server.ts';
import type { Enrolment } from './enrolment.ts';
import type { CniHooks, Membership } from './hooks.ts';
import type { PodRegistry } from './pod-registry.ts';
import { isTerminated } from './pod-state.ts';

export interface CniHooksDeps {
  readonly registry: PodRegistry;
  readonly enrolment: Enrolment;
  readonly backend: RedirectBackend;
  readonly zds: ZdsServer;
  /** Fail-open, and in effect: pods start without a ztunnel. */
  readonly isLifted: () => boolean;
  /** How long a pod that no source has told of is waited for. Default 2 000. */
  readonly lookupTimeoutMs?: number;
}

const DEFAULT_LOOKUP_TIMEOUT_MS = 2_000;

export function createCniHooks(deps: CniHooksDeps): CniHooks {
  const { registry, enrolment, backend, zds } = deps;
  return {
    lookup: async (namespace, name, signal, uid) => lookup(deps, namespace, name, signal, uid),
    enrol: async (pod, ips, netnsPath, signal) => enrolment.enrol(pod, { ips, netnsPath }, signal),
    check: async (pod, netnsPath) => {
      const entry = enrolment.entry(pod.uid);
      if (entry === undefined) return [`the agent does not know pod ${podName(pod)}`];
      const { state, problem } = entry;
      if (state.kind === 'outside') return [problem?.message ?? `pod ${podName(pod)} is not enrolled`];
      const wrong: string[] = [];
      if (!enrolment.isNetnsOf(pod.uid, netnsPath)) wrong.push(`${netnsPath} is not the network it was enrolled with`);
      if (state.kind === 'lifted') wrong.push('its rules are lifted, since no ztunnel is there (fail mode open)');
      if (state.kind === 'captured') wrong.push(problem?.message ?? 'ztunnel does not serve it yet');
      if (state.kind !== 'lifted') {
        const { drift } = await backend.verify(state.held.netns, state.plan, undefined);
        wrong.push(...drift.map(({ what }) => what));
      }
      return wrong;
    },
    // Attachments say nothing that sources and namespaces do not say better: they are a reason to look.
    collect: async () => enrolment.collectGarbage(),
    notReady: () => {
      if (!registry.isComplete) return 'the agent does not know the pods of this node yet';
      if (zds.connections === 0 && !deps.isLifted()) return 'no ztunnel is connected to the agent';
      return undefined;
    },
  };
}

async function lookup(
  { registry, enrolment, lookupTimeoutMs = DEFAULT_LOOKUP_TIMEOUT_MS }: CniHooksDeps,
  namespace: string,
  name: string,
  signal: AbortSignal,
  uid: string | undefined,
): Promise<Membership> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(lookupTimeoutMs)]);
  for (;;) {
    const pod = registry.pod(namespace, name);
    // A pod of that name that has ended, or another by its UID, is the one before: the cache is behind.
    const isCurrent = pod !== undefined && !isTerminated(pod) && (uid === undefined || pod.uid === uid);
    const answer = isCurrent && registry.isComplete ? enrolment.membershipOf(pod) : undefined;
    if (isCurrent && answer !== undefined) {
      return answer.member ? { kind: 'member', pod } : { kind: 'outsider', why: answer.why };
    }
    if (until.aborted) {
      const what = isCurrent ? `namespace ${namespace}` : `pod ${namespace}/${name}`;
      const why = registry.isComplete ? `no source has told of ${what}` : 'the pods of this node are not known yet';
      return { kind: 'unknown', why };
    }
    await registry.changed(until);
  }
}
