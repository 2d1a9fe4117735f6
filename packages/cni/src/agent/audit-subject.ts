// What the agent lets the audit see and do.
import { listListeners } from '@ambit/native';
import type { AuditedPod, AuditSubject } from '../audit/audit-types.ts';
import type { HeldNetns } from '../netns/held-netns.ts';
import type { AgentPod } from '../pod/agent-pod.ts';
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

/** What ztunnel opens in every pod it serves. */
const ZTUNNEL_PORTS = [15001, 15006, 15008] as const;

export function createAuditSubject({ registry, enrolment, zds, probes }: AuditSubjectDeps): AuditSubject {
  return {
    pods: () =>
      [...registry.pods()].filter(pod => !pod.hostNetwork && !isTerminated(pod)).map(pod => describe(enrolment, pod)),
    ztunnels: () => zds.synced,
    hasCanary: () => zds.hasCanary,
    enrolAgain: async uid => {
      const held = enrolment.entry(uid)?.state.held;
      // To a ztunnel an ADD of what it believes to serve is nothing new: where its sockets are gone it must be told to end first.
      await enrolment.enrolAgain(uid, held !== undefined && zds.synced > 0 && !isServed(held));
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

function isServed({ netns }: HeldNetns): boolean {
  const ports = new Set(netns.run(() => listListeners()).map(({ port }) => port));
  return ZTUNNEL_PORTS.every(port => ports.has(port));
}
