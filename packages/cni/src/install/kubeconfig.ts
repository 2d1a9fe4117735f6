// The credentials with which the plugin's fallback asks the API server: the agent's own, written as a kubeconfig in JSON (which
// is YAML, too) because that is what plugins of this kind read. Follows the rotation of the token by being written again.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CniError } from '../errors.ts';
import { readIfThere } from './atomic-file.ts';
import { jsonText } from './chain-text.ts';

export interface KubeconfigOptions {
  /** KUBERNETES_SERVICE_HOST and _PORT; an IPv6 address without brackets. */
  readonly host: string;
  readonly port: string;
  /** Default https. */
  readonly protocol?: string;
  /** Where `token` and `ca.crt` are; default: where Kubernetes puts them. */
  readonly serviceAccountDir?: string;
  readonly caFile?: string;
  readonly skipsTlsVerification?: boolean;
  /** Default 0600. */
  readonly mode?: number;
}

export const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

const USER = 'istio-cni';
const CLUSTER = 'local';
const CONTEXT = 'istio-cni-context';

/** @throws CniError cni.kubernetes when the token or the CA is not there */
export function kubeconfigText(options: KubeconfigOptions): string {
  const { host, port, protocol = 'https', serviceAccountDir = SERVICE_ACCOUNT_DIR } = options;
  const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const token = read(join(serviceAccountDir, 'token')).trim();
  const trust =
    options.skipsTlsVerification === true
      ? { 'insecure-skip-tls-verify': true }
      : {
          'certificate-authority-data': Buffer.from(read(options.caFile ?? join(serviceAccountDir, 'ca.crt'))).toString(
            'base64',
          ),
        };
  return jsonText({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: CLUSTER, cluster: { server: `${protocol}://${authority}`, ...trust } }],
    users: [{ name: USER, user: { token } }],
    contexts: [{ name: CONTEXT, context: { cluster: CLUSTER, user: USER } }],
    'current-context': CONTEXT,
  });
}

function read(path: string): string {
  const text = readIfThere(() => readFileSync(path, 'utf8'));
  if (text !== undefined) return text;
  throw new CniError('cni.kubernetes', `there is no ${path}`, {
    next: 'run the agent with a service account, or without a kubeconfig for its plugin',
  });
}
