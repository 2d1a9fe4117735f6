// What may be wrong with the node as a whole: no ztunnel, and the rules of the host by which probes are let through.
import { errorText } from '@ambit/log';
import type { AuditSubject } from './audit-types.ts';
import type { Condition } from './check-pod.ts';

const ZTUNNEL_GRACE_MS = 3_000;
/** An agent that has just started waits for ztunnel to come back to it. */
const START_GRACE_MS = 10_000;

/** @param isMissed there are members, and no ztunnel that serves them */
export function checkZtunnel(isMissed: boolean, agentAgeMs: number): readonly Condition[] {
  if (!isMissed) return [];
  return [
    {
      code: 'audit.ztunnel_down',
      what: 'no ztunnel is connected: members of this node have no network',
      remedy: 'see why ztunnel does not run: its pod, or its log on this node',
      repair: 'none',
      graceMs: agentAgeMs < START_GRACE_MS ? START_GRACE_MS : ZTUNNEL_GRACE_MS,
    },
  ];
}

/** Never throws. */
export async function checkHost(subject: Pick<AuditSubject, 'hostDrift'>): Promise<readonly Condition[]> {
  const condition = (what: string): Condition => ({
    code: 'audit.host_rules_drift',
    what,
    remedy: 'they are programmed anew',
    repair: 'host',
    graceMs: 0,
  });
  try {
    const drift = await subject.hostDrift();
    if (drift.length === 0) return [];
    return [condition(`the kubelet's probes may not get through: ${drift.map(({ what }) => what).join('; ')}`)];
  } catch (error) {
    return [condition(`the host's rules for probes cannot be read: ${errorText(error)}`)];
  }
}
