// Figures that other parts of the main thread keep, read when somebody looks: the build, the pods, the control plane, the
// certificates, and what was lost on the way to a reader.
import type { DeltaStats, DeltaStatus } from '@ambit/wire/grpc';
import type { CertificateStats, IdentityReport } from '../identity/certificate-manager.ts';
import type { SupervisorStats } from '../supervisor.ts';
import type { MetricRegistry } from './metric-registry.ts';
import type { MetricShape } from './metric-table.ts';

export interface NodeReadings {
  /** As Istio's deployment calls its version (`ISTIO_META_ISTIO_VERSION`). */
  readonly istioVersion: string;
  readonly version: string;
  /** Whether pods come and go (shared mode). */
  readonly isShared: boolean;
  readonly supervisor: () => SupervisorStats;
  readonly pendingPods: () => number;
  readonly xds: () => { readonly status: DeltaStatus; readonly stats: DeltaStats } | undefined;
  readonly certificates: () => { readonly stats: CertificateStats; readonly identities: readonly IdentityReport[] };
  /** Lines lost since the start. */
  readonly logLinesDropped: () => number;
  readonly streamedRecordsDropped: () => number;
}

/** `istio_build` stands before the traffic, where upstream has it. */
export function addBuildMetric(registry: MetricRegistry, readings: NodeReadings): void {
  const build = registry.lasting({
    labels: ['component', 'tag'],
    metrics: [gauge('istio_build', 'Istio component build info.')],
  });
  build.set(build.row(['ztunnel', readings.istioVersion]), 0, 1);
  const own = registry.lasting({
    labels: ['component', 'version', 'node'],
    metrics: [gauge('ambit_build', 'Version of Ambit and of Node that this process runs.')],
  });
  own.set(own.row(['ztunnel', readings.version, process.version]), 0, 1);
}

export function addNodeMetrics(registry: MetricRegistry, readings: NodeReadings): void {
  addXds(registry, readings);
  if (readings.isShared) addPods(registry, readings);
  addCertificates(registry, readings);
  addSelf(registry, readings);
}

function addXds(registry: MetricRegistry, { xds }: NodeReadings): void {
  const terminations = registry.lasting({
    labels: ['reason'],
    metrics: [counter('istio_xds_connection_terminations', 'Streams of the control plane that ended (unstable).')],
  });
  const messages = registry.lasting({
    labels: ['url'],
    metrics: [
      counter('istio_xds_message', 'Responses of the control plane (unstable).'),
      {
        ...counter('istio_xds_message_bytes', 'Payload of the responses of the control plane (unstable).'),
        unit: 'bytes',
      },
    ],
  });
  const state = registry.lasting({
    labels: [],
    metrics: [
      gauge('ambit_xds_connected', 'Whether there is a stream to the control plane.'),
      counter('ambit_xds_nacks', 'Responses of the control plane refused in part.'),
      counter('ambit_xds_demands', 'Questions about single destinations.'),
      counter('ambit_xds_demands_late', 'Such questions without an answer in time.'),
    ],
  });
  registry.onRead(() => {
    const source = xds();
    if (source === undefined) return;
    const { status, stats } = source;
    for (const [reason, count] of Object.entries(stats.terminations)) {
      terminations.set(terminations.row([reason]), 0, count);
    }
    for (const [url, count] of stats.messages) messages.set(messages.row([url]), 0, count);
    for (const [url, bytes] of stats.messageBytes) messages.set(messages.row([url]), 1, bytes);
    const row = state.row([]);
    state.set(row, 0, status.state === 'connected' ? 1 : 0);
    state.set(row, 1, stats.nacks);
    state.set(row, 2, stats.demands);
    state.set(row, 3, stats.demandsLate);
  });
}

function addPods(registry: MetricRegistry, { supervisor, pendingPods }: NodeReadings): void {
  const pods = registry.lasting({
    labels: [],
    metrics: [
      gauge('workload_manager_active_proxy_count', 'Pods that are served (unstable).'),
      gauge('workload_manager_pending_proxy_count', 'Pods that could not be served yet (unstable).'),
      counter('workload_manager_proxies_started', 'Pods whose service began (unstable).'),
      counter('workload_manager_proxies_stopped', 'Pods whose service ended (unstable).'),
    ],
  });
  registry.onRead(() => {
    const stats = supervisor();
    const row = pods.row([]);
    pods.set(row, 0, stats.pods);
    pods.set(row, 1, pendingPods());
    pods.set(row, 2, stats.podsOpened);
    // One that could not be opened is closed too, on the workers that had it open.
    pods.set(row, 3, Math.max(0, stats.podsClosed - stats.podsFailed));
  });
}

function addCertificates(registry: MetricRegistry, { certificates }: NodeReadings): void {
  const expiry = registry.table({
    labels: ['identity'],
    metrics: [
      {
        ...gauge(
          'ambit_certificate_expiry_timestamp_seconds',
          'When the certificate in use ends, since the Unix epoch.',
        ),
        unit: 'seconds',
      },
    ],
  });
  const counts = registry.lasting({
    labels: [],
    metrics: [
      gauge('ambit_certificates', 'Identities whose certificates are kept.'),
      gauge('ambit_certificates_available', 'Such identities with a valid certificate.'),
      counter('ambit_certificates_issued', 'Certificates obtained.'),
      counter('ambit_certificate_requests_failed', 'Requests for certificates that failed.'),
      counter('ambit_certificates_expired', 'Certificates that ended without a successor.'),
    ],
  });
  registry.onRead(() => {
    const { stats, identities } = certificates();
    expiry.clear();
    for (const { identity, notAfterMs } of identities) {
      if (notAfterMs !== undefined) expiry.set(expiry.row([identity]), 0, Math.floor(notAfterMs / 1000));
    }
    const row = counts.row([]);
    counts.set(row, 0, stats.identities);
    counts.set(row, 1, stats.available);
    counts.set(row, 2, stats.issued);
    counts.set(row, 3, stats.failed);
    counts.set(row, 4, stats.expired);
  });
}

function addSelf(registry: MetricRegistry, readings: NodeReadings): void {
  const self = registry.lasting({
    labels: [],
    metrics: [
      counter('ambit_log_lines_dropped', 'Log lines lost because their reader is too slow.'),
      counter('ambit_record_stream_dropped', 'Records lost on the way to AMBIT_RECORDS_PATH.'),
      counter('ambit_workers_replaced', 'Data workers that died and were replaced.'),
      counter('ambit_tunnels_moved', 'Live tunnels handed from a busy worker to an idle one.'),
      counter('ambit_metric_overflows', 'Updates of sets of labels that had no room of their own.'),
      counter('ambit_metric_values_refused', 'Updates left out because their number was negative or none at all.'),
      gauge('ambit_metric_label_sets', 'Sets of labels on show.'),
    ],
  });
  registry.onRead(() => {
    const stats = readings.supervisor();
    const row = self.row([]);
    self.set(row, 0, readings.logLinesDropped());
    self.set(row, 1, readings.streamedRecordsDropped());
    self.set(row, 2, stats.workersReplaced);
    self.set(row, 3, stats.tunnelsMoved);
    self.set(row, 4, registry.overflowed);
    self.set(row, 5, registry.refused);
    self.set(row, 6, registry.size);
  });
}

type Shape<Type extends MetricShape['type']> = { readonly name: string; readonly help: string; readonly type: Type };

function gauge(name: string, help: string): Shape<'gauge'> {
  return { name, help, type: 'gauge' };
}

function counter(name: string, help: string): Shape<'counter'> {
  return { name, help, type: 'counter' };
}
