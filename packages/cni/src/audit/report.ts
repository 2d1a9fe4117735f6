// The audit as JSON, for the admin socket, commands and scripts. Keys are an API.
import type { RedirectPlan } from '../redirect/redirect-plan.ts';
import { podName } from '../pod/agent-pod.ts';
import type { Auditor } from './auditor.ts';
import type { AuditSubject, FindingCode } from './audit-types.ts';
import { missingListeners } from './check-pod.ts';
import type { ListedFinding } from './ledger.ts';
import type { PodWatch } from './pod-watch.ts';

export interface AuditReport {
  readonly node: string;
  /** RFC 3339, when this was written. */
  readonly at: string;
  /** No finding, repaired ones of the last minute included. */
  readonly clean: boolean;
  readonly repairs: boolean;
  readonly ztunnels: number;
  /** False with a ztunnel that has none, such as Istio's. */
  readonly hasCanary: boolean;
  readonly lastRun: { readonly at: string; readonly seconds: number } | null;
  readonly pods: readonly PodReport[];
  readonly findings: readonly FindingReport[];
}

export interface PodReport {
  /** `namespace/name`. */
  readonly pod: string;
  readonly uid: string;
  /** null: not known yet. */
  readonly member: boolean | null;
  readonly status: 'enabled' | 'pending' | 'none';
  /** null: not compared. For who is no member, `ok` is that none are there. */
  readonly rules: 'ok' | 'drift' | null;
  readonly listeners: 'ok' | 'gone' | null;
  readonly certificate: { readonly notAfter: string; readonly remainingSeconds: number } | null;
  readonly canary: CanaryReport | null;
}

export type CanaryReport =
  | { readonly result: 'ok'; readonly seconds: number; readonly group: string; readonly cipher: string }
  | { readonly result: 'denied' | 'plaintext' | 'failed'; readonly why: string };

export interface FindingReport {
  readonly code: FindingCode;
  /** `namespace/name`, or `node`. */
  readonly pod: string;
  readonly uid: string | null;
  readonly what: string;
  readonly remedy: string;
  /** RFC 3339. */
  readonly since: string;
  readonly repaired: boolean;
  readonly repairedAfterSeconds: number | null;
}

export function auditReport(auditor: Auditor, subject: AuditSubject, node: string): AuditReport {
  const findings = auditor.findings();
  const hasCanary = subject.hasCanary();
  const { lastRunAt, lastRunMs } = auditor.counters;
  return {
    node,
    at: new Date().toISOString(),
    clean: findings.length === 0,
    repairs: auditor.isRepairing,
    ztunnels: subject.ztunnels(),
    hasCanary,
    lastRun: lastRunAt === undefined ? null : { at: lastRunAt.toISOString(), seconds: lastRunMs / 1000 },
    pods: Array.from(auditor.watches, watch => podReport(watch, hasCanary)).sort(
      (a, b) => Number(b.member) - Number(a.member) || (a.pod < b.pod ? -1 : 1),
    ),
    findings: findings.map(findingReport),
  };
}

function podReport(watch: PodWatch, hasCanary: boolean): PodReport {
  const { pod, shouldBeMember, status, plan } = watch.audited;
  const canary = status === 'enabled' && hasCanary ? canaryReport(watch) : null;
  return {
    pod: podName(pod),
    uid: pod.uid,
    member: shouldBeMember ?? null,
    status,
    rules: watch.drift === undefined ? null : watch.drift.length === 0 ? 'ok' : 'drift',
    listeners: shouldBeMember === true ? listenersOf(watch, plan) : null,
    certificate: canary === null ? null : certificateOf(watch),
    canary,
  };
}

function listenersOf({ netns }: PodWatch, plan: RedirectPlan | undefined): PodReport['listeners'] {
  if (netns.kind !== 'seen' || plan === undefined) return null;
  return missingListeners(netns.look, plan).length === 0 ? 'ok' : 'gone';
}

function certificateOf({ canary }: PodWatch): PodReport['certificate'] {
  if (canary.result?.kind !== 'answered') return null;
  const { notAfter } = canary.result.answer;
  return { notAfter, remainingSeconds: Math.round((Date.parse(notAfter) - Date.now()) / 1000) };
}

function canaryReport({ canary }: PodWatch): CanaryReport | null {
  const { last } = canary;
  switch (last?.kind) {
    case undefined:
      return null;
    case 'answered':
      return { result: 'ok', seconds: last.ms / 1000, group: last.answer.group, cipher: last.answer.cipher };
    case 'denied':
      return { result: 'denied', why: last.reason };
    case 'bypassed':
      return { result: 'plaintext', why: last.why };
    case 'broken':
      return { result: 'failed', why: last.why };
  }
}

function findingReport(finding: ListedFinding): FindingReport {
  const { code, pod, uid, what, remedy, since, repaired, repairedAfterMs } = finding;
  return {
    code,
    pod,
    uid: uid ?? null,
    what,
    remedy,
    since: since.toISOString(),
    repaired,
    repairedAfterSeconds: repairedAfterMs === undefined ? null : repairedAfterMs / 1000,
  };
}
