// The rules inside an enrolled pod's namespace, said once as values; pure. Each back end writes them in its own language,
// so both do the same by construction. Chains, order, marks and ports are those of Istio's CNI agent, so that either
// agent can replace the other's rules. Left alone: ICMP, UDP other than DNS, and everything to 127.0.0.1 and ::1.
import type { RedirectPlan } from './redirect-plan.ts';

/** Mark of every packet that ztunnel itself sends, and of connections it opened; both under this mask. */
export const MARK_MASK = 0xfff;
export const ZTUNNEL_MARK = 0x539;
export const CONNECTION_MARK = 0x111;

export const OUTBOUND_PORT = 15001;
export const INBOUND_PLAINTEXT_PORT = 15006;
export const INBOUND_HBONE_PORT = 15008;
export const DNS_PROXY_PORT = 15053;

/** Where packets with the connection mark are looked up, whatever address they carry: table 100 delivers all locally. */
export const ROUTE_TABLE = 100;
export const RULE_PRIORITY = 32764;

/** What the node's translation gives the kubelet's probes as a source, unless configured otherwise. */
export const DEFAULT_PROBE_SNAT: RedirectPlan['probeSnat'] = {
  ip: '169.254.7.127',
  ip6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff',
};

const DNS_PORT = 53;
/** Conntrack zone of ztunnel's own DNS: its queries must not meet the entries of those that were redirected to it. */
const DNS_ZONE = 1;

export type IpFamily = 4 | 6;
export type RuleTable = 'nat' | 'mangle' | 'raw';
export type RuleHook = 'prerouting' | 'output';

/** Conditions; all of a rule's must hold. Those with an address make a rule per family. */
export type RuleMatch =
  | { readonly kind: 'tcp' }
  | { readonly kind: 'source'; readonly address: 'probe' }
  | { readonly kind: 'destination'; readonly address: 'probe' }
  | { readonly kind: 'not-loopback' }
  | { readonly kind: 'arrives-by'; readonly device: string }
  | { readonly kind: 'leaves-by-lo'; readonly not: boolean }
  | {
      readonly kind: 'port';
      readonly protocol: 'tcp' | 'udp';
      readonly side: 'source' | 'destination';
      readonly not: boolean;
      readonly port: number;
    }
  | { readonly kind: 'packet-mark'; readonly not: boolean; readonly mark: number }
  | { readonly kind: 'connection-mark'; readonly mark: number };

export type RuleVerdict =
  | { readonly kind: 'accept' }
  | { readonly kind: 'return' }
  | { readonly kind: 'redirect'; readonly port: number }
  /** Remembers on the connection that ztunnel opened it; others' bits stay. */
  | { readonly kind: 'set-connection-mark'; readonly mark: number }
  | { readonly kind: 'restore-mark' }
  | { readonly kind: 'conntrack-zone'; readonly zone: number };

export interface RedirectRule {
  readonly table: RuleTable;
  readonly hook: RuleHook;
  readonly when: readonly RuleMatch[];
  readonly verdict: RuleVerdict;
}

const TCP = { kind: 'tcp' } as const;
const NOT_LOOPBACK = { kind: 'not-loopback' } as const;
const NOT_OF_ZTUNNEL = { kind: 'packet-mark', not: true, mark: ZTUNNEL_MARK } as const;
const OF_ZTUNNEL = { kind: 'packet-mark', not: false, mark: ZTUNNEL_MARK } as const;
const ACCEPT = { kind: 'accept' } as const;

/** In the order of each chain; the order of chains is the back end's. */
export function redirectRules(plan: RedirectPlan): readonly RedirectRule[] {
  return [
    ...chain('nat', 'prerouting', natPrerouting(plan)),
    ...chain('nat', 'output', natOutput(plan)),
    ...chain('mangle', 'prerouting', [[[OF_ZTUNNEL], { kind: 'set-connection-mark', mark: CONNECTION_MARK }]]),
    ...chain('mangle', 'output', [[[{ kind: 'connection-mark', mark: CONNECTION_MARK }], { kind: 'restore-mark' }]]),
    ...(plan.dnsCapture ? dnsZones() : []),
  ];
}

/** Whether a rule is written once for each family. */
export function isPerFamily(rule: RedirectRule): boolean {
  return rule.when.some(({ kind }) => kind === 'source' || kind === 'destination' || kind === 'not-loopback');
}

export function loopbackOf(family: IpFamily): string {
  return family === 4 ? '127.0.0.1' : '::1';
}

export function probeAddressOf(plan: RedirectPlan, family: IpFamily): string {
  return family === 4 ? plan.probeSnat.ip : plan.probeSnat.ip6;
}

export function familiesOf(plan: RedirectPlan): readonly IpFamily[] {
  return plan.ipv6 ? [4, 6] : [4];
}

type ChainRule = readonly [when: readonly RuleMatch[], verdict: RuleVerdict];

function chain(table: RuleTable, hook: RuleHook, rules: readonly ChainRule[]): RedirectRule[] {
  return rules.map(([when, verdict]) => ({ table, hook, when, verdict }));
}

function natPrerouting(plan: RedirectPlan): ChainRule[] {
  const ofMachines = plan.virtualInterfaces.flatMap((device): ChainRule[] => [
    [[{ kind: 'arrives-by', device }, TCP], { kind: 'redirect', port: OUTBOUND_PORT }],
    [[{ kind: 'arrives-by', device }, TCP], { kind: 'return' }],
  ]);
  if (plan.bypassInbound) return ofMachines;
  return [
    ...ofMachines,
    [[TCP, { kind: 'source', address: 'probe' }], ACCEPT],
    // 15008 is ztunnel's own door: whoever knocks there speaks to it directly.
    [
      [
        NOT_LOOPBACK,
        { kind: 'port', protocol: 'tcp', side: 'destination', not: true, port: INBOUND_HBONE_PORT },
        NOT_OF_ZTUNNEL,
      ],
      { kind: 'redirect', port: INBOUND_PLAINTEXT_PORT },
    ],
  ];
}

function natOutput(plan: RedirectPlan): ChainRule[] {
  const dnsOver = (protocol: 'tcp' | 'udp') =>
    ({ kind: 'port', protocol, side: 'destination', not: false, port: DNS_PORT }) as const;
  const toDnsProxy = { kind: 'redirect', port: DNS_PROXY_PORT } as const;
  const dns: ChainRule[] = [
    [[{ kind: 'leaves-by-lo', not: true }, NOT_OF_ZTUNNEL, dnsOver('udp')], toDnsProxy],
    [[NOT_LOOPBACK, dnsOver('tcp'), NOT_OF_ZTUNNEL], toDnsProxy],
  ];
  return [
    [[TCP, { kind: 'destination', address: 'probe' }], ACCEPT],
    ...(plan.dnsCapture ? dns : []),
    // Replies of the application on a connection that ztunnel opened towards it.
    [[TCP, { kind: 'packet-mark', not: false, mark: CONNECTION_MARK }], ACCEPT],
    // A pod that calls its own address talks to itself.
    [[{ kind: 'leaves-by-lo', not: false }, NOT_LOOPBACK], ACCEPT],
    [[TCP, NOT_LOOPBACK, NOT_OF_ZTUNNEL], { kind: 'redirect', port: OUTBOUND_PORT }],
  ];
}

function dnsZones(): RedirectRule[] {
  const dns = (side: 'source' | 'destination') =>
    ({ kind: 'port', protocol: 'udp', side, not: false, port: DNS_PORT }) as const;
  const zone = { kind: 'conntrack-zone', zone: DNS_ZONE } as const;
  return [
    ...chain('raw', 'prerouting', [[[dns('source'), NOT_OF_ZTUNNEL], zone]]),
    ...chain('raw', 'output', [[[dns('destination'), OF_ZTUNNEL], zone]]),
  ];
}
