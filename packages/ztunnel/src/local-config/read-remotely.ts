// Reads local configuration in a helper process, so that the YAML and validation libraries never live in the proxy.
import { HelperProcess } from '../helper/helper-process.ts';
import type { LocalMesh } from './reader.ts';

/** Long enough for 100 000 workloads on a slow node. */
const DEADLINE_MS = 60_000;
const IDLE_MS = 500;

const helper = new HelperProcess({
  entry: new URL('./reader-process.ts', import.meta.url),
  idleMs: IDLE_MS,
  deadlineMs: DEADLINE_MS,
  failureCode: 'config.invalid',
});

/** As `readLocalConfig`. @throws config.invalid */
export async function readLocalConfigRemotely(text: string, source: string): Promise<LocalMesh> {
  // The child is our own program and answers with what readLocalConfig returned.
  return (await helper.request({ text, source })) as LocalMesh;
}
