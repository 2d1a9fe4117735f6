// Every option of the control plane, once: its name in the configuration file (and, in kebab case, as a flag), the
// environment variable (istiod's own where it has one), its syntax, default and help. Flags win over the environment,
// the environment over the file, the file over the default.
import { anyText, choice, dnsName, duration, flag, integer, list, listen, type Parser, text } from './values.ts';

export interface Option<T> {
  /** The environment variable; undefined: none. */
  readonly env: string | undefined;
  readonly parse: Parser<T>;
  readonly fallback: T;
  /** For `--help`: what it is, without the default. */
  readonly help: string;
  /** Placeholder in `--help`. */
  readonly placeholder: string;
}

const DAY_MS = 86_400_000;

export const OPTIONS = {
  files: option('AMBIT_FILES', list, [], 'PATHS', 'directories or files of Kubernetes YAML, separated by commas'),
  kubernetes: option(
    'AMBIT_KUBERNETES',
    choice('off', 'auto', 'in-cluster', 'kubeconfig'),
    'auto',
    'WHICH',
    'Kubernetes API server as a source; auto: in a pod without files its own, elsewhere none',
  ),
  kubeconfig: option('KUBECONFIG', text, '', 'FILE', 'kubeconfig file'),
  context: option('AMBIT_KUBE_CONTEXT', text, '', 'NAME', 'context of the kubeconfig'),
  namespaces: option('AMBIT_NAMESPACES', list, [], 'NAMES', 'read these namespaces only; default: all'),
  state: option('AMBIT_STATE', text, '/var/lib/ambit/control', 'DIR', 'keys, audit log and admin socket live here'),
  trustDomain: option('TRUST_DOMAIN', dnsName, 'cluster.local', 'NAME', 'SPIFFE trust domain'),
  domain: option('DOMAIN', dnsName, 'cluster.local', 'NAME', 'DNS suffix of services'),
  clusterId: option('CLUSTER_ID', text, 'Kubernetes', 'ID', 'cluster id'),
  network: option('NETWORK', anyText, undefined, 'ID', 'network; default: a label of the root namespace'),
  rootNamespace: option('POD_NAMESPACE', text, 'istio-system', 'NAME', 'policies here hold for the whole mesh'),
  revision: option('REVISION', text, 'default', 'NAME', 'objects with another istio.io/rev are left alone'),
  dryRunPolicies: option(
    'AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY',
    flag,
    false,
    'BOOL',
    'send policies annotated istio.io/dry-run',
  ),
  autoAllowWaypoints: option(
    'PILOT_AUTO_ALLOW_WAYPOINT_POLICY',
    flag,
    false,
    'BOOL',
    'allow a waypoint to reach what is behind it',
  ),
  allocateAddresses: option(
    'PILOT_ENABLE_IP_AUTOALLOCATE',
    flag,
    true,
    'BOOL',
    'give ServiceEntries without an address one of their own',
  ),
  grpcAddress: option(
    'AMBIT_GRPC_ADDRESS',
    listen,
    { host: '127.0.0.1', port: 15010 },
    'ADDR',
    'xDS in plain text, loopback only',
  ),
  secureGrpcAddress: option(
    'AMBIT_SECURE_GRPC_ADDRESS',
    listen,
    { host: '::', port: 15012 },
    'ADDR',
    'xDS and certificates over TLS',
  ),
  adminAddress: option(
    'AMBIT_ADMIN_ADDRESS',
    listen,
    { host: '127.0.0.1', port: 15014 },
    'ADDR',
    'status for people and probes, read only',
  ),
  servingNames: option('AMBIT_SERVING_NAMES', list, [], 'NAMES', 'further names in the certificate of the TLS port'),
  caDir: option('ROOT_CA_DIR', text, '/etc/cacerts', 'DIR', 'plugged-in CA as in the secret cacerts, if it exists'),
  caStorage: option(
    'AMBIT_CA_STORAGE',
    choice('auto', 'file', 'secret'),
    'auto',
    'WHERE',
    'where a root of our own is kept; auto: a Secret in a cluster, else a file',
  ),
  publishTrust: option(
    'AMBIT_PUBLISH_TRUST',
    choice('auto', 'on', 'off'),
    'auto',
    'WHEN',
    'keep roots and revocation lists in a ConfigMap of every namespace; auto: in a cluster, as its control plane',
  ),
  defaultTtl: option('DEFAULT_WORKLOAD_CERT_TTL', duration, DAY_MS, 'TIME', 'life of certificates that ask for none'),
  maxTtl: option('MAX_WORKLOAD_CERT_TTL', duration, 90 * DAY_MS, 'TIME', 'longest life of a certificate'),
  rootOverlap: option('AMBIT_ROOT_OVERLAP', duration, DAY_MS, 'TIME', 'how long two roots are trusted in a rotation'),
  trustedNodeAccounts: option(
    'CA_TRUSTED_NODE_ACCOUNTS',
    list,
    ['istio-system/ztunnel', 'kube-system/ztunnel'],
    'ACCOUNTS',
    'namespace/account that may ask for identities of pods on their own node',
  ),
  tokenAudiences: option('TOKEN_AUDIENCES', list, ['istio-ca'], 'NAMES', 'audiences of Kubernetes tokens'),
  debounce: option('PILOT_DEBOUNCE_AFTER', duration, 20, 'TIME', 'push when nothing changed for this long'),
  debounceMax: option('PILOT_DEBOUNCE_MAX', duration, 200, 'TIME', 'push at the latest after this long'),
  maxClients: option('AMBIT_MAX_CLIENTS', integer(1, 100_000), 5000, 'COUNT', 'connected xDS clients'),
  maxConnectionAge: option('AMBIT_MAX_CONNECTION_AGE', duration, 0, 'TIME', 'close xDS connections after; 0: never'),
  logFormat: option('LOG_FORMAT', choice('plain', 'json'), 'plain', 'FORMAT', 'plain or json'),
  logLevel: option('LOG_LEVEL', choice('debug', 'info', 'warn', 'error'), 'info', 'LEVEL', 'debug, info, warn, error'),
} as const;

export type OptionName = keyof typeof OPTIONS;

type ValueOf<N extends OptionName> = (typeof OPTIONS)[N] extends Option<infer T> ? T : never;

/** The value of every option. */
export type OptionValues = { readonly [N in OptionName]: ValueOf<N> };

/** `grpcAddress` is `--grpc-address`. */
export function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`;
}

function option<T, F extends T | undefined>(
  env: string | undefined,
  parse: Parser<T>,
  fallback: F,
  placeholder: string,
  help: string,
): Option<T | F> {
  return { env, parse, fallback, placeholder, help };
}
