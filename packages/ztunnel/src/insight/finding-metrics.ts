// Findings as a gauge, so that an alert can be built on them. How many there are by code; about whom is what `/findings` says.
import type { Finding } from '@ambit/insight';
import type { MetricRegistry } from '../metrics/metric-registry.ts';

export function addFindingMetrics(registry: MetricRegistry, findings: () => readonly Finding[]): void {
  const table = registry.lasting({
    labels: ['code', 'severity'],
    metrics: [{ name: 'ambit_findings', help: 'Findings there are now.', type: 'gauge' }],
  });
  registry.onRead(() => {
    // One that is over reads 0: a series that ends would look like a proxy that is gone.
    for (const row of table.rows()) table.set(row, 0, 0);
    for (const { code, severity } of findings()) {
      const row = table.row([code, severity]);
      const before = row.values[0] ?? 0;
      table.set(row, 0, Number.isNaN(before) ? 1 : before + 1);
    }
  });
}
