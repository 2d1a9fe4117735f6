// From what was seen of a pod to what is wrong with it. Pure. Each condition says how long it may last before it is a finding:
// what a pod passes through while it starts, moves or ends is none.
import { parseSpiffeId } from '@ambit/mesh';
import { type AgentPod, podName } from '../pod/agent-pod.ts';
import type { Drift, RedirectPlan } from '../redirect/redirect-plan.ts';
import { REDIRECTION_ANNOTATION } from '../sources/pod-source.ts';
import type { AuditedPod, FindingCode } from './audit-types.ts';
import type { CanaryResult } from './canary-client.ts';
import type { NetnsLook } from './netns-look.ts';

export interface PodFacts {
  readonly pod: AgentPod;
  readonly shouldBeMember: AuditedPod['shouldBeMember'];
  readonly status: AuditedPod['status'];
  /** How long it has been in that status. */
  readonly statusAgeMs: number;
  readonly plan: RedirectPlan | undefined;
  readonly netns: NetnsFacts;
  /** undefined: not compared. */
  readonly drift: readonly Drift[] | undefined;
  /** The source is known to tell what was noted on this pod. */
  readonly showsStatus: boolean;
  /** Whether a ztunnel holds a snapshot. */
  readonly hasZtunnel: boolean;
  /** The last word of the canary that counts; undefined: none asked, or not yet. */
  readonly canary: CanaryResult | undefined;
  /** Another pod in whose namespace one of this pod's addresses is. */
  readonly addressAt: string | undefined;
  readonly nowMs: number;
}

export type NetnsFacts =
  /** The agent holds none, and no source names one. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'unreachable'; readonly why: string }
  /** `isElsewhere`: the pod's source names another namespace than the one that is held. */
  | { readonly kind: 'seen'; readonly look: NetnsLook; readonly isElsewhere: boolean };

/** What mends a condition: enrol anew, or take away what is left. `none`: only people can. */
export type RepairAction = 'enrol' | 'remove' | 'host' | 'none';

export interface Condition {
  readonly code: FindingCode;
  readonly what: string;
  readonly remedy: string;
  readonly repair: RepairAction;
  /** It is a finding when it has lasted so long. */
  readonly graceMs: number;
}

/** Rules and sockets change in steps while a pod is enrolled: what is seen in between is gone at the second look. */
export const SECOND_LOOK_MS = 200;
const NEW_MS = 2_000;
const ENROL_GRACE_MS = 10_000;
const NETNS_GRACE_MS = 500;
/** Between the end of a pod's network and the word of the API server that it is gone. */
const ENDING_GRACE_MS = 30_000;
/** Of a certificate's life; ztunnel renews at half of it. */
const EXPIRING_SHARE = 0.2;

const TCP_PORTS = [15001, 15006, 15008] as const;
const DNS_PORT = 15053;

/** What ztunnel may open in a pod, and where it must be found. */
export const ZTUNNEL_PORTS: ReadonlyMap<number, 'everywhere' | 'loopback'> = new Map([
  ...TCP_PORTS.map(port => [port, 'everywhere'] as const),
  [DNS_PORT, 'loopback'],
]);

const BY_ITSELF = 'the pod is enrolled anew';

export function checkPod(facts: PodFacts): readonly Condition[] {
  const { shouldBeMember } = facts;
  if (shouldBeMember === undefined) return [];
  return shouldBeMember ? checkMember(facts) : checkOutsider(facts);
}

/** Ports of ztunnel on which nobody waits, such as `15008` or `15053/udp`. */
export function missingListeners(look: NetnsLook, plan: RedirectPlan): readonly string[] {
  const tcp = plan.dnsCapture ? [...TCP_PORTS, DNS_PORT] : TCP_PORTS;
  const missing = tcp.filter(port => !look.tcp.has(port)).map(String);
  return plan.dnsCapture && !look.udp.has(DNS_PORT) ? [...missing, `${DNS_PORT}/udp`] : missing;
}

/** What is wrong before any traffic: a canary that fails beside it is its consequence. */
export function isCause({ code }: Condition): boolean {
  return code !== 'audit.label_mismatch' && code !== 'audit.canary_failed' && !code.startsWith('audit.certificate_');
}

function checkMember(facts: PodFacts): readonly Condition[] {
  const found = [
    ...checkEnrolment(facts),
    ...checkNetns(facts),
    ...checkDrift(facts),
    ...checkListeners(facts),
    ...checkLabel(facts),
  ];
  const byCanary = checkCanary(facts);
  const codes = new Set(found.map(({ code }) => code));
  if (facts.canary?.kind !== 'answered' && found.some(isCause)) return found;
  return [...found, ...byCanary.filter(({ code }) => !codes.has(code))];
}

function checkEnrolment({ pod, status, hasZtunnel, netns }: PodFacts): readonly Condition[] {
  if (status === 'enabled' || (status === 'pending' && !hasZtunnel)) return [];
  // It has no network yet, so there is nothing that could leak.
  if (pod.ips.length === 0 && netns.kind === 'unknown') return [];
  const what =
    status === 'pending'
      ? 'its rules are in place, and ztunnel does not serve it: its traffic is refused'
      : 'it should be a member and is not: its traffic is plain text';
  return [{ code: 'audit.not_enrolled', what, remedy: BY_ITSELF, repair: 'enrol', graceMs: ENROL_GRACE_MS }];
}

function checkNetns({ pod, netns, addressAt, status }: PodFacts): readonly Condition[] {
  const wrong = (what: string, graceMs = NETNS_GRACE_MS): readonly Condition[] => [
    { code: 'audit.wrong_netns', what, remedy: `${BY_ITSELF}, by what its source says`, repair: 'enrol', graceMs },
  ];
  if (netns.kind === 'unknown' || status === 'none') return [];
  if (netns.kind === 'unreachable') return wrong(`its network cannot be entered: ${netns.why}`, ENDING_GRACE_MS);
  const { look, isElsewhere } = netns;
  const isThere = pod.ips.length === 0 || pod.ips.some(ip => look.addresses.has(ip));
  if (!look.hasNetwork) return wrong('nothing is left of its network', ENDING_GRACE_MS);
  const ips = pod.ips.join(', ');
  if (addressAt !== undefined) {
    const what = isThere
      ? `${addressAt} has an address of it as well (${ips})`
      : `its address (${ips}) is at ${addressAt} now, and not in the network that is held for it`;
    const [remedy, repair] = isThere
      ? (['two pods share an address: delete one of them, and see what assigns addresses', 'none'] as const)
      : ([`${BY_ITSELF}, by what its source says`, 'enrol'] as const);
    return [{ code: 'audit.address_reused', what, remedy, repair, graceMs: NETNS_GRACE_MS }];
  }
  if (isElsewhere) return wrong('the network that is held for it is not the one its source names');
  return isThere ? [] : wrong(`none of its addresses (${ips}) is in the network that is held for it`);
}

function checkDrift({ drift, plan }: PodFacts): readonly Condition[] {
  if (plan === undefined || drift === undefined) return [];
  const codes = [
    ['audit.rules_drift', drift.filter(({ part }) => part === 'rules')],
    ['audit.routes_drift', drift.filter(({ part }) => part !== 'rules')],
  ] as const;
  return codes.flatMap(([code, differences]) =>
    differences.length === 0
      ? []
      : {
          code,
          what: sentence(differences),
          remedy: 'they are programmed anew',
          repair: 'enrol' as const,
          graceMs: SECOND_LOOK_MS,
        },
  );
}

function checkListeners({ netns, plan, status, statusAgeMs, hasZtunnel }: PodFacts): readonly Condition[] {
  // Without a ztunnel none is to be expected, and that is another finding.
  if (netns.kind !== 'seen' || plan === undefined || status !== 'enabled' || !hasZtunnel) return [];
  const missing = missingListeners(netns.look, plan);
  if (missing.length === 0) return [];
  // A new ztunnel says yes to a pod a moment before it has opened everything.
  const graceMs = statusAgeMs < NEW_MS ? NEW_MS : SECOND_LOOK_MS;
  const what = `ztunnel does not listen on ${missing.join(', ')}: the pod's traffic is refused`;
  return [{ code: 'audit.listener_gone', what, remedy: 'ztunnel is told to serve it anew', repair: 'enrol', graceMs }];
}

function checkLabel({ pod, status, showsStatus }: PodFacts): readonly Condition[] {
  const noted = pod.annotations[REDIRECTION_ANNOTATION];
  if (noted === undefined && !showsStatus) return [];
  const wanted = status === 'none' ? undefined : status;
  if (noted === wanted) return [];
  return [
    {
      code: 'audit.label_mismatch',
      what: `annotation ${REDIRECTION_ANNOTATION} says ${noted ?? 'nothing'}, and the pod is ${wanted ?? 'not enrolled'}`,
      remedy: 'control planes go by it: see whether the agent may write to pods, then restart the agent',
      repair: 'none',
      graceMs: ENROL_GRACE_MS,
    },
  ];
}

function checkCanary({ pod, canary, status, statusAgeMs, nowMs }: PodFacts): readonly Condition[] {
  if (canary === undefined || status !== 'enabled') return [];
  // A new pod's certificate is being asked for, and connections wait for it.
  const young = Math.max(0, ENROL_GRACE_MS - statusAgeMs);
  const failed = (what: string, remedy: string, graceMs = young): readonly Condition[] => [
    { code: 'audit.canary_failed', what, remedy, repair: 'none', graceMs },
  ];
  switch (canary.kind) {
    case 'answered':
      return checkAnswer(pod, canary.answer, nowMs);
    case 'denied': {
      const { reason } = canary;
      if (!/^(identity|tls)\./.test(reason)) {
        return failed(
          `its canary does not get through: ${reason}`,
          `see docs/reasons for ${reason}, and ztunnel's log`,
        );
      }
      const remedy = 'see whether the certificate authority is reachable and signs for this service account';
      const what = `its proxy has no certificate that is good: ${reason}`;
      return [{ code: 'audit.certificate_missing', what, remedy, repair: 'none', graceMs: young }];
    }
    case 'bypassed':
      return failed(
        `plaintext: its traffic goes past the mesh, ${canary.why}`,
        "look for others' rules in the pod's network: nsenter --net=… nft list ruleset",
        0,
      );
    case 'broken':
      return failed(`its canary came to nothing: ${canary.why}`, "see ztunnel's log for this pod");
  }
}

function checkAnswer(
  pod: AgentPod,
  answer: Extract<CanaryResult, { kind: 'answered' }>['answer'],
  nowMs: number,
): readonly Condition[] {
  const id = parseSpiffeId(answer.local);
  const isOwn =
    answer.peer === answer.local &&
    answer.workload === podName(pod) &&
    id?.namespace === pod.namespace &&
    id.serviceAccount === pod.serviceAccount;
  if (!isOwn) {
    const what = `in its network ztunnel speaks as ${answer.workload}, ${answer.local}`;
    const remedy = `${BY_ITSELF}, by what its source says`;
    return [{ code: 'audit.wrong_netns', what, remedy, repair: 'enrol', graceMs: 0 }];
  }
  const [from, to] = [Date.parse(answer.notBefore), Date.parse(answer.notAfter)];
  const remedy = 'see whether the certificate authority is reachable, and both clocks';
  if (nowMs >= to) {
    const what = `its certificate expired at ${answer.notAfter}`;
    return [{ code: 'audit.certificate_missing', what, remedy, repair: 'none', graceMs: 0 }];
  }
  if (to - nowMs >= (to - from) * EXPIRING_SHARE) return [];
  const what = `its certificate expires at ${answer.notAfter} and is not renewed`;
  return [{ code: 'audit.certificate_expiring', what, remedy, repair: 'none', graceMs: 0 }];
}

function checkOutsider({ drift, status, plan }: PodFacts): readonly Condition[] {
  if (drift === undefined || drift.length === 0) return [];
  // Of one that is being taken out nothing may be said while that goes on.
  const graceMs = status === 'none' && plan === undefined ? SECOND_LOOK_MS : ENROL_GRACE_MS;
  const what = `it is no member, and ${sentence(drift)}`;
  return [{ code: 'audit.leftover_rules', what, remedy: 'what is ours is removed', repair: 'remove', graceMs }];
}

const MAX_TOLD = 3;

function sentence(drift: readonly Drift[]): string {
  const told = drift.slice(0, MAX_TOLD).map(({ what }) => what);
  const rest = drift.length - told.length;
  return rest > 0 ? `${told.join('; ')}; and ${rest} more` : told.join('; ');
}
