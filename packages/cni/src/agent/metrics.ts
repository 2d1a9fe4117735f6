// Numbers of the agent in Prometheus's text format. Names are Istio's where it has the same number.
// https://prometheus.io/docs/instrumenting/exposition_formats/

export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly samples: readonly Sample[];
}

export interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export type MetricSource = () => Iterable<Metric>;

export const METRICS_TYPE = 'text/plain; version=0.0.4';

export function renderMetrics(sources: readonly MetricSource[]): string {
  const lines: string[] = [];
  for (const source of sources) {
    for (const { name, help, type, samples } of source()) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      for (const { labels = {}, value } of samples) lines.push(`${name}${labelText(labels)} ${value}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const parts = Object.entries(labels).map(([key, value]) => `${key}="${escape(value)}"`);
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

function escape(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
