// Every option of the node agent, once: as a flag (kebab case), as an environment variable (Istio's own where it has one), its
// syntax, default and help. Flags win over the environment. Defaults are those of Istio's chart, where they differ from its
// binary's.
import { address, choice, duration, flag, list, type Parser, port, text } from './values.ts';

export interface Option<T> {
  readonly env: string;
  readonly parse: Parser<T>;
  readonly fallback: T;
  /** For `--help`: what it is, without the default. */
  readonly help: string;
  readonly placeholder: string;
}

export const OPTIONS = {
  nodeName: option('NODE_NAME', text, '', 'NAME', 'this node, as its pods name it; needed with Kubernetes'),
  kubernetes: option(
    'AMBIT_KUBERNETES',
    choice('off', 'auto', 'in-cluster', 'kubeconfig'),
    'auto',
    'WHICH',
    'API server that tells of pods; auto: in a pod its own, elsewhere none',
  ),
  kubeconfig: option('KUBECONFIG', text, '', 'FILE', 'kubeconfig file'),
  enablementSelector: option(
    'AMBIENT_ENABLEMENT_SELECTOR',
    text,
    '',
    'YAML',
    'which pods are members: pairs of podSelector and namespaceSelector',
  ),
  excludeNamespaces: option('EXCLUDE_NAMESPACES', list, ['kube-system'], 'NAMES', 'never touch pods of these'),
  systemNamespace: option('SYSTEM_NAMESPACE', text, 'istio-system', 'NAME', "where ztunnel's pods are"),
  podNamespace: option('POD_NAMESPACE', text, 'istio-system', 'NAME', "where the agent's own pods are"),
  dnsCapture: option('AMBIENT_DNS_CAPTURE', flag, true, 'BOOL', "lead members' DNS to ztunnel"),
  ipv6: option('AMBIENT_IPV6', flag, true, 'BOOL', 'capture IPv6 too'),
  reconcileAtStart: option(
    'AMBIENT_RECONCILE_POD_RULES_ON_STARTUP',
    flag,
    true,
    'BOOL',
    'compare and mend the rules of pods that are members already',
  ),
  backend: option(
    'AMBIT_BACKEND',
    choice('auto', 'nftables', 'iptables'),
    'auto',
    'WHICH',
    'what programs the rules; auto: nftables where its library is there',
  ),
  nativeNftables: option('NATIVE_NFTABLES', flag, false, 'BOOL', "Istio's name for --backend nftables"),
  forceIptablesBinary: option('FORCE_IPTABLES_BINARY', text, '', 'WHICH', 'legacy or nft, instead of looking'),
  probes: option(
    'AMBIT_PROBES',
    choice('auto', 'on', 'off'),
    'auto',
    'WHEN',
    "let the kubelet's probes through to members; auto: with Kubernetes",
  ),
  probeIp: option('HOST_PROBE_SNAT_IP', address, '169.254.7.127', 'IP', 'source of probes as members see it'),
  probeIp6: option(
    'HOST_PROBE_SNAT_IPV6',
    address,
    'fd16:9254:7127:1337:ffff:ffff:ffff:ffff',
    'IP',
    'the same for IPv6',
  ),
  branchEni: option(
    'AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE',
    flag,
    true,
    'BOOL',
    'let probes reach pods behind branch interfaces of AWS',
  ),
  install: option(
    'AMBIT_INSTALL',
    choice('auto', 'on', 'off'),
    'auto',
    'WHEN',
    'keep the CNI plugin installed on the node; auto: in a cluster; where is in the variables of ambit cni install',
  ),
  detectionRetry: option(
    'ENABLE_AMBIENT_DETECTION_RETRY',
    flag,
    true,
    'BOOL',
    'the plugin fails pods of which it cannot find out whether they are members',
  ),
  daemonSet: option(
    'AMBIT_DAEMON_SET',
    text,
    'istio-cni-node',
    'NAME',
    "the DaemonSet of agents, in the agent's namespace; while it is there, what is installed on the node stays",
  ),
  disableSafeUpgrade: option(
    'AMBIENT_DISABLE_SAFE_UPGRADE',
    flag,
    false,
    'BOOL',
    'always take the plugin and the rules of the node away at the end',
  ),
  auditRepair: option('AMBIT_AUDIT_REPAIR', flag, true, 'BOOL', 'mend what the audit finds'),
  failMode: option(
    'AMBIT_FAIL_MODE',
    choice('closed', 'open'),
    'closed',
    'MODE',
    'members while no ztunnel is there: closed refuses their traffic, open lets it pass in plain text',
  ),
  failOpenAfter: option(
    'AMBIT_FAIL_OPEN_AFTER',
    duration,
    10_000,
    'TIME',
    'how long a ztunnel may be away before that',
  ),
  runDirectory: option(
    'CNI_AGENT_RUN_DIR',
    text,
    '/var/run/istio-cni',
    'DIR',
    "sockets of plugins and of this agent's admin",
  ),
  zdsSocket: option('ZTUNNEL_UDS_ADDRESS', text, '/var/run/ztunnel/ztunnel.sock', 'PATH', 'where ztunnel connects'),
  ztunnelTimeout: option('AMBIT_ZTUNNEL_TIMEOUT', duration, 10_000, 'TIME', 'for each of its answers'),
  hostRoot: option(
    'AMBIT_HOST_ROOT',
    text,
    'auto',
    'DIR',
    "where the node's file system is; auto: /host if there is /host/proc, else /",
  ),
  bindAddress: option('AMBIT_BIND_ADDRESS', address, '::', 'IP', 'of health and metrics'),
  healthPort: option('AMBIT_HEALTH_PORT', port, 8000, 'PORT', '/healthz and /readyz; 0: none'),
  monitoringPort: option('MONITORING_PORT', port, 15014, 'PORT', '/metrics; 0: none'),
  logFormat: option('LOG_FORMAT', choice('plain', 'json'), 'plain', 'FORMAT', 'plain or json'),
  logLevel: option('LOG_LEVEL', choice('debug', 'info', 'warn', 'error'), 'info', 'LEVEL', 'debug, info, warn, error'),
} as const;

export type OptionName = keyof typeof OPTIONS;

type ValueOf<N extends OptionName> = (typeof OPTIONS)[N] extends Option<infer T> ? T : never;

/** The value of every option. */
export type OptionValues = { readonly [N in OptionName]: ValueOf<N> };

/** `failMode` is `--fail-mode`. */
export function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`;
}

function option<T>(env: string, parse: Parser<T>, fallback: T, placeholder: string, help: string): Option<T> {
  return { env, parse, fallback, placeholder, help };
}
