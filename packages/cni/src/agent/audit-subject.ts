// What the agent lets the audit see and do.
import type { AuditedPod, AuditSubject } from '../audit/audit-types.ts';
import { missingListeners, ZTUNNEL_PORTS } from '../audit/check-pod.ts';
import { lookInto } from '../audit/netns-look.ts';
import type { HeldNetns } from '../netns/held-netns.ts';
import type { AgentPod } from '../pod/agent-pod.ts';
import type { RedirectPlan } from '../redirect/redirect-plan.ts';
import type { ZdsServer } from '../zds/zds-server.ts';
import type { Enrolment } from './enrolment.ts';
import type { PodRegistry } from './pod-registry.ts';
import { isTerminated, type PodState } from './pod-state.ts';
import type { ProbeSet } from './probe-set.ts';

export interface AuditSubjectDeps {
  readonly registry: PodRegistry;
  readonly enrolment: Enrolment;
  readonly zds: ZdsServer;
  readonly probes: ProbeSet | undefined;
}

export function createAuditSubject({ registry, enrolment, zds, probes }: AuditSubjectDeps): AuditSubject {
  return {
    pods: () =>
      [...registry.pods()].filter(pod => !pod.hostNetwork && !isTerminated(pod)).map(pod => describe(enrolment, pod)),
    ztunnels: () => zds.synced,
    hasCanary: () => zds.hasCanary,
    enrolAgain: async uid => {
      const state = enrolment.entry(uid)?.state;
      // To a ztunnel an ADD of what it believes to serve is nothing new: where its sockets are gone it must be told to end first.
      const isDeaf = state !== undefined && 'plan' in state && zds.synced > 0 && !isServed(state.held, state.plan);
      await enrolment.enrolAgain(uid, isDeaf);
    },
    removeLeftovers: async uid => enrolment.removeLeftovers(uid),
    hostDrift: async () => (await probes?.verify()) ?? [],
    repairHost: async () => probes?.repair(),
  };
}

function describe(enrolment: Enrolment, pod: AgentPod): AuditedPod {
  const entry = enrolment.entry(pod.uid);
  const state: PodState = entry?.state ?? { kind: 'outside', held: undefined };
  return {
    pod,
    shouldBeMember: enrolment.membershipOf(pod)?.member,
    netns: state.held?.netns,
    // Lifted on purpose: nothing of ours is meant to be there.
    plan: state.kind === 'captured' || state.kind === 'served' ? state.plan : undefined,
    status: state.kind === 'served' ? 'enabled' : state.kind === 'outside' ? 'none' : 'pending',
    since: entry?.since ?? new Date(0),
  };
}

function isServed({ netns }: HeldNetns, plan: RedirectPlan): boolean {
  return missingListeners(lookInto(netns, ZTUNNEL_PORTS), plan).length === 0;
}
