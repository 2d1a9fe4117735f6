// The service account of the pod we run in: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/.
// The kubelet replaces the token long before it expires (and the CA when that changes), so both are read for every
// request: requests are few, and the files are small and in memory.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { errorText } from '@ambit/log';
import { KubeError } from './errors.ts';
import type { Authorization, KubeEndpoint, Surroundings } from './endpoint.ts';
import { serverAddress } from './server-address.ts';

export const SERVICE_ACCOUNT_DIRECTORY = '/var/run/secrets/kubernetes.io/serviceaccount';

/** @throws KubeError `kube.config` */
export function serviceAccountEndpoint({ env, serviceAccountDirectory }: Surroundings): KubeEndpoint {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? '';
  const port = env['KUBERNETES_SERVICE_PORT'] ?? '443';
  return {
    server: serverAddress(`https://${host.includes(':') ? `[${host}]` : host}:${port}`, false),
    async authorize(): Promise<Authorization> {
      const [token, ca] = await Promise.all(
        ['token', 'ca.crt'].map(async name => await read(path.join(serviceAccountDirectory, name))),
      );
      return {
        headers: { Authorization: `Bearer ${(token ?? '').trim()}` },
        tls: { ca, cert: undefined, key: undefined, servername: undefined, rejectUnauthorized: true },
        proxyAgent: undefined,
      };
    },
  };
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new KubeError('kube.credentials', `cannot read the service account's ${file}: ${errorText(error)}`, {
      cause: error,
      next: 'check automountServiceAccountToken of the pod and of its service account',
    });
  }
}
