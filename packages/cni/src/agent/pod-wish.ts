// What a pod should be, by what the sources say of it and its namespace. Decides nothing by what is.
import type { WorkloadInfo } from '@ambit/wire';
import type { AgentPod, PodNamespace } from '../pod/agent-pod.ts';
import type { EnablementSelector } from '../pod/label-selector.ts';
import { L7_ANNOTATION, l7WishOf } from '../pod/l7-annotation.ts';
import { isZtunnelPod, membership, type MembershipAnswer, namespaceEnables } from '../pod/membership.ts';
import { REDIRECTION_ANNOTATION, type RedirectionStatus } from '../sources/pod-source.ts';
import type { EnrolmentOptions } from './enrolment-parts.ts';
import type { PodRegistry } from './pod-registry.ts';

/** undefined: its namespace is not known (yet), so nothing may be concluded. */
export function membershipOf(
  pod: AgentPod,
  registry: PodRegistry,
  { rules, systemNamespace }: Pick<EnrolmentOptions, 'rules' | 'systemNamespace'>,
): MembershipAnswer | undefined {
  const namespace = registry.namespaceOf(pod);
  if (namespace === undefined) return undefined;
  if (isZtunnelPod(pod, systemNamespace)) return { member: false, why: 'it is a ztunnel' };
  return membership(pod, namespace, rules);
}

/** As ztunnel is told of it. */
export function workloadInfoOf(pod: AgentPod, registry: PodRegistry): WorkloadInfo {
  const { name, namespace, serviceAccount } = pod;
  const { text } = l7WishOf(pod, registry.namespaceOf(pod));
  return { name, namespace, serviceAccount, ...(text === undefined ? {} : { l7: text }) };
}

/** Whether a change of a namespace may change what its pods should be. */
export function concernsPods(
  namespace: PodNamespace,
  before: PodNamespace | undefined,
  selectors: readonly EnablementSelector[],
): boolean {
  return (
    before === undefined ||
    namespaceEnables(selectors, namespace.labels) !== namespaceEnables(selectors, before.labels) ||
    namespace.annotations?.[L7_ANNOTATION] !== before.annotations?.[L7_ANNOTATION]
  );
}

/** What somebody has noted on the pod. */
export function notedStatus({ annotations }: AgentPod): RedirectionStatus {
  const noted = annotations[REDIRECTION_ANNOTATION];
  return noted === 'enabled' || noted === 'pending' ? noted : undefined;
}
