// The program of the helper process that signs development certificates. The root's key is read here and never enters
// the proxy; the workload's private key never leaves the proxy. Files are read for every request, so a new root counts
// from the next certificate on.
import { readFile } from 'node:fs/promises';
import { errorText, ZtunnelError } from '../errors.ts';
import { serveHelper } from '../helper/serve-helper.ts';
import type { SignRequest, SignResult } from './dev-ca.ts';
import { signDevLeaf } from './dev-root.ts';

serveHelper('identity.unavailable', async payload => {
  // Our own parent sends this; it is checked where it matters (identity, key) by signDevLeaf.
  const request = payload as SignRequest;
  const rootsPem = await read(request.certPath);
  const keyPem = await read(request.keyPath);
  const leaf = await signDevLeaf({ certPem: rootsPem, keyPem }, { ...request, nowMs: Date.now() });
  return { ...leaf, rootsPem } satisfies SignResult;
});

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new ZtunnelError('identity.unavailable', `cannot read ${path}: ${errorText(cause)}`, { cause });
  }
}
