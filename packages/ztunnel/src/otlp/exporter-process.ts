// The export process: takes batches from the proxy and gives them to OpenTelemetry's exporters, which read their addresses,
// headers, certificates and limits from the environment and try again within their time limit. Holds one batch of a signal
// at a time. It gives way to everything else on the machine, and ends with its parent.
import { setPriority } from 'node:os';
import type { ExportFunction, SignalExporters } from './exporters.ts';
import { openExporters } from './exporters.ts';
import type { FromExporter, ToExporter } from './otlp-messages.ts';

const LOW_PRIORITY = 10;
const MAX_ERROR_CHARS = 500;

let exporters: Promise<SignalExporters> | undefined;

process.on('message', (message: ToExporter) => {
  if (message.kind === 'start') exporters = openExporters(message);
  else void carry(message);
});
process.on('disconnect', () => process.exit(0));
// Ctrl-C reaches the whole process group; the parent still needs us while it drains.
process.on('SIGINT', () => undefined);
setPriority(LOW_PRIORITY);

async function carry(message: Exclude<ToExporter, { kind: 'start' }>): Promise<void> {
  let error: string | undefined;
  try {
    const all = await exporters;
    const exportBatch = all?.[message.kind] as ExportFunction<typeof message> | undefined;
    if (exportBatch === undefined) throw new Error(`no exporter of ${message.kind}`);
    await exportBatch(message);
  } catch (thrown) {
    error = (thrown instanceof Error ? thrown.message || thrown.name : String(thrown)).slice(0, MAX_ERROR_CHARS);
  }
  process.send?.({ kind: 'done', id: message.id, error } satisfies FromExporter);
}
