// What tests of API clients begin with: a server, a directory, a certificate; each gone when the test is over.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type ApiServer, type ApiServerOptions, startApiServer } from './api-server.ts';

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'ambit-kube-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export async function startServer(t: TestContext, options: ApiServerOptions = {}): Promise<ApiServer> {
  const server = await startApiServer(options);
  t.after(() => server.close());
  return server;
}

/** A certificate for 127.0.0.1 that is its own CA. */
export function selfSigned(t: TestContext, name: string): { readonly cert: string; readonly key: string } {
  const at = path.join(temporaryDirectory(t), name);
  const files = ['-keyout', `${at}.key`, '-out', `${at}.crt`];
  const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'];
  execFileSync('openssl', [...kind, ...files, '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'], {
    stdio: 'ignore',
  });
  return { cert: readFileSync(`${at}.crt`, 'utf8'), key: readFileSync(`${at}.key`, 'utf8') };
}
