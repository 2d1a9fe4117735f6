// A client certificate counts when TLS has verified it, and in no other case. Certificates are made by openssl.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type ClientSessionOptions, connect, createSecureServer, type SecureClientSessionOptions } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { type CallCredentials, readTimeoutMs } from './call-context.ts';
import { createGrpcHandler, DELTA_PATH } from './handler.ts';

interface Pair {
  readonly cert: string;
  readonly key: string;
}

async function selfSigned(directory: string, name: string): Promise<Pair> {
  const [certPath, keyPath] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyPath];
  await promisify(execFile)('openssl', [
    'req',
    '-x509',
    '-subj',
    `/CN=${name}`,
    '-days',
    '1',
    ...key,
    '-out',
    certPath,
  ]);
  return { cert: await readFile(certPath, 'utf8'), key: await readFile(keyPath, 'utf8') };
}

test('only a verified client certificate is shown to handlers', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-wire-'));
  try {
    const [server, known, stranger] = [
      await selfSigned(directory, 'server'),
      await selfSigned(directory, 'known'),
      await selfSigned(directory, 'stranger'),
    ];
    const seen: CallCredentials[] = [];
    const handler = createGrpcHandler({ deltaResources: async ({ context }) => void seen.push(context.credentials) });
    // As the control plane has it: a certificate is asked for and may be missing, since tokens prove callers too.
    const listener = createSecureServer(
      { ...server, ca: known.cert, requestCert: true, rejectUnauthorized: false },
      handler,
    );
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    const call = async (pair: Pair | undefined) => {
      const options: ClientSessionOptions & SecureClientSessionOptions = { ...pair, rejectUnauthorized: false };
      const session = connect(`https://127.0.0.1:${port}`, options);
      const stream = session.request({ ':method': 'POST', ':path': DELTA_PATH, 'content-type': 'application/grpc' });
      stream.end();
      stream.resume();
      await once(stream, 'close');
      session.destroy();
    };
    for (const pair of [known, stranger, undefined]) await call(pair);
    const [first, second, third] = seen;
    assert.deepEqual(Buffer.from(first?.certificate ?? []), new X509Certificate(known.cert).raw);
    assert.match(first?.peer ?? '', /^127\.0\.0\.1:\d+$/);
    assert.deepEqual([second?.certificate, third?.certificate], [undefined, undefined]);
    assert.equal(seen.length, 3);
    listener.close();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('deadlines are read in every unit, and nonsense is none', () => {
  const cases = ['1H', '2M', '3S', '40m', '5000u', '1n', '', '12', 'S', '123456789S', '-1S'];
  assert.deepEqual(cases.map(readTimeoutMs), [
    3_600_000,
    120_000,
    3_000,
    40,
    5,
    1,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});
