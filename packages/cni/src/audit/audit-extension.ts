// The audit as a part of the agent: begins with it, ends with it, answers on its admin socket and counts in its metrics.
import type { AdminRoute } from '../agent/admin.ts';
import type { AgentExtension, AgentParts } from '../agent/agent.ts';
import type { Metric } from '../agent/metrics.ts';
import type { PodEventSink } from '../sources/pod-events.ts';
import { Auditor } from './auditor.ts';
import { findingEvent } from './finding-events.ts';
import type { LedgerEvent } from './ledger.ts';
import { auditReport } from './report.ts';

export interface AuditExtensionOptions {
  readonly node: string;
  /** AMBIT_AUDIT_REPAIR: whether what is found is mended. */
  readonly repair: boolean;
  /** Where the node's file system is seen; empty: as it is. */
  readonly hostRoot: string;
  /** Where findings are told of besides; undefined: nowhere. */
  readonly events?: PodEventSink | undefined;
}

export function auditExtension(options: AuditExtensionOptions): (parts: AgentParts) => AgentExtension {
  return ({ audit: subject, backend, log }) => {
    const { node, repair, hostRoot, events } = options;
    const onEvent = (event: LedgerEvent): void => {
      const said = findingEvent(event);
      if (said !== undefined) events?.say(said);
    };
    const auditor = new Auditor({ subject, backend, log: log.scope('audit'), hostRoot, onEvent }, { repair });
    auditor.start();
    const report = () => auditReport(auditor, subject, node);
    return {
      routes: auditRoute(auditor, report),
      metrics: () => auditMetrics(auditor, events),
      close: () => auditor.close(),
    };
  };
}

/** `GET /v1/audit`: as it stands. `POST /v1/audit`, `{"repair": false}` if nothing is to be mended: looks at everything first. */
export function auditRoute(auditor: Auditor, report: () => object): AdminRoute {
  return async ({ method, path, body, signal }) => {
    if (path !== '/v1/audit') return undefined;
    if (method === 'GET') return { status: 200, json: report() };
    if (method !== 'POST') return { status: 405, json: { code: 'admin.bad_request', message: 'GET or POST' } };
    const isHandsOff = typeof body === 'object' && body !== null && 'repair' in body && body.repair === false;
    await auditor.run({ repair: !isHandsOff, signal });
    return { status: 200, json: report() };
  };
}

export function* auditMetrics(auditor: Auditor, events?: PodEventSink): Iterable<Metric> {
  const counts = new Map<string, number>();
  for (const { code, repaired } of auditor.findings()) if (!repaired) counts.set(code, (counts.get(code) ?? 0) + 1);
  yield {
    name: 'ambit_audit_findings',
    help: 'What is wrong with pods of this node now, by reason code.',
    type: 'gauge',
    samples: Array.from(counts, ([code, value]) => ({ labels: { code }, value })),
  };
  const { runs, lastRunAt, lastRunMs } = auditor.counters;
  yield {
    name: 'ambit_audit_runs_total',
    help: 'Looks at all pods of this node.',
    type: 'counter',
    samples: [{ value: runs }],
  };
  yield {
    name: 'ambit_audit_repairs_total',
    help: 'Repairs of what was found, by result.',
    type: 'counter',
    samples: Object.entries(auditor.repairs).map(([result, value]) => ({ labels: { result }, value })),
  };
  if (events !== undefined) {
    const { written, failed, suppressed } = events.counts;
    yield {
      name: 'ambit_audit_events_total',
      help: 'Events that findings gave rise to on pods, by what became of them.',
      type: 'counter',
      samples: Object.entries({ written, failed, suppressed }).map(([result, value]) => ({
        labels: { result },
        value,
      })),
    };
  }
  if (lastRunAt === undefined) return;
  yield {
    name: 'ambit_audit_last_run_age_seconds',
    help: 'Since the last look at all pods.',
    type: 'gauge',
    samples: [{ value: (Date.now() - lastRunAt.getTime()) / 1000 }],
  };
  yield {
    name: 'ambit_audit_last_run_duration_seconds',
    help: 'How long the last look at all pods took.',
    type: 'gauge',
    samples: [{ value: lastRunMs / 1000 }],
  };
}
