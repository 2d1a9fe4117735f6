// A server of the control plane as the gRPC client wants it: files are read anew each time they are needed, for they rotate.
// The token is trimmed, since one that was written with a line break is still that token; an empty one is an error.
import { open } from 'node:fs/promises';
import type { GrpcTarget } from '@ambit/wire/grpc';
import type { Config } from '../config.ts';
import type { ControlPlaneServer, RootSource, TokenSource } from '../config/control-plane.ts';
import { ZtunnelError } from '../errors.ts';

type TargetConfig = Pick<Config, 'authToken' | 'clusterId' | 'postQuantumOnly'>;

const MAX_FILE_BYTES = 4 << 20;
/** `COMPLIANCE_POLICY=pqc` holds for the whole process. */
const PQC_GROUPS = 'X25519MLKEM768';

export function grpcTarget(server: ControlPlaneServer, config: TargetConfig): GrpcTarget {
  const { authToken, clusterId, postQuantumOnly } = config;
  return {
    url: server.url,
    altName: server.altName,
    groups: postQuantumOnly ? PQC_GROUPS : undefined,
    roots: async () => await readRoots(server.roots),
    headers: async () => {
      const headers: Record<string, string> = {};
      for (const [name, value] of server.headers) headers[name] = value.reveal();
      // Without a token upstream sends no cluster id either.
      if (authToken === undefined) return headers;
      return { ...headers, authorization: `Bearer ${await readToken(authToken)}`, clusterid: clusterId };
    },
  };
}

async function readRoots(source: RootSource): Promise<string> {
  switch (source.kind) {
    case 'system':
      return 'system';
    case 'pem':
      return source.pem;
    case 'file':
      return await readBounded(source.path);
  }
}

async function readToken(source: TokenSource): Promise<string> {
  if (source.kind === 'literal') return source.token.reveal();
  const token = (await readBounded(source.path)).trim();
  if (token === '') throw new ZtunnelError('config.invalid', `${source.path} is empty`);
  return token;
}

async function readBounded(path: string): Promise<string> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  if (size > MAX_FILE_BYTES)
    throw new ZtunnelError('config.invalid', `${path} has ${size} bytes, at most ${MAX_FILE_BYTES}`);
  return await file.readFile('utf8');
}
