// Which of the system's iptables to use: legacy where the node already has rules in it, else the one on top of nf_tables,
// else whatever plain `iptables` is. Decided once; that it works is tried in a namespace made for it, never on the node.
import { createNetNs, type NetNs } from '@ambit/native';
import { CniError } from '../errors.ts';
import type { IpFamily } from './redirect-rules.ts';
import { runTool, type ToolResult } from './tool-in-netns.ts';

export interface IptablesBinary {
  readonly variant: 'nft' | 'legacy';
  /** `iptables-nft`; with `-save` and `-restore` behind it, the other programs. */
  readonly names: Readonly<Record<IpFamily, string>>;
  readonly hasIpv6: boolean;
  /** `1.8.9` */
  readonly version: string;
}

export interface IptablesWish {
  /** Istio's FORCE_IPTABLES_BINARY. */
  readonly force?: 'legacy' | 'nft' | undefined;
  readonly ipv6: boolean;
}

/** Upstream counts lines, and takes tables that its own looking left behind for somebody's rules. */
const SOME_RULE = /^-A /m;
/** A protocol number that nobody uses, so that the trial concerns no packet even in its own namespace. */
const TRIAL = '*nat\n-A INPUT -p 255 -j RETURN\nCOMMIT\n';
const LOCK_WAIT_S = 30;

/** @param node the node's own namespace, which is only read @throws CniError cni.unsupported */
export async function chooseIptables(node: NetNs, wish: IptablesWish): Promise<IptablesBinary> {
  const candidates = wish.force === undefined ? ['-legacy', '-nft', ''] : [`-${wish.force}`];
  for (const suffix of candidates) {
    const found = await examine(suffix, wish.ipv6);
    if (found === undefined) continue;
    if (suffix === '-legacy' && wish.force === undefined && !(await hasRules(node, found))) continue;
    return found;
  }
  throw new CniError('cni.unsupported', `no ${candidates.map(suffix => `iptables${suffix}`).join(', ')} works here`, {
    next: wish.ipv6
      ? 'install the package iptables, or switch IPv6 off if only ip6tables fails'
      : 'install the package iptables',
  });
}

/** Runs one of the binary's programs inside. @throws CniError enrol.rules with what it said */
export async function runIptables(
  netns: NetNs,
  binary: IptablesBinary,
  family: IpFamily,
  program: 'save' | 'restore',
  input?: string,
): Promise<string> {
  const args = program === 'restore' ? ['--noflush', ...lockArguments(binary)] : [];
  const name = `${binary.names[family]}-${program}`;
  const result = await runTool(netns, name, args, { ...(input === undefined ? {} : { input }), env: LOCK_ENVIRONMENT });
  if (result?.code === 0) return result.stdout;
  const said = result === undefined ? 'is not installed' : `failed: ${result.stderr.trim() || `status ${result.code}`}`;
  throw new CniError('enrol.rules', `${name} ${said}`, { where: name });
}

/**
 * legacy locks one file for the whole machine. Inside a pod the lock is the namespace itself, as its own processes see it:
 * then pods do not wait for each other, and nothing is left behind.
 */
const LOCK_ENVIRONMENT = { XTABLES_LOCKFILE: '/proc/self/ns/net' };

function lockArguments({ variant, version }: IptablesBinary): readonly string[] {
  return variant === 'legacy' && isAtLeast(version, [1, 6, 2]) ? [`--wait=${LOCK_WAIT_S}`] : [];
}

async function examine(suffix: string, ipv6: boolean): Promise<IptablesBinary | undefined> {
  const names = { 4: `iptables${suffix}`, 6: `ip6tables${suffix}` } as const;
  const scratch = createNetNs();
  try {
    const version = await runTool(scratch, names[4], ['--version']);
    if (version?.code !== 0) return undefined;
    const number = /\bv(\d+\.\d+(?:\.\d+)?)/.exec(version.stdout)?.[1] ?? '0.0.0';
    const variant = version.stdout.includes('nf_tables') ? 'nft' : 'legacy';
    const hasIpv6 = await works(scratch, names[6]);
    if (!(await works(scratch, names[4])) || (ipv6 && !hasIpv6)) return undefined;
    return { variant, names, hasIpv6, version: number };
  } finally {
    scratch.close();
  }
}

async function works(scratch: NetNs, name: string): Promise<boolean> {
  const steps: (ToolResult | undefined)[] = [
    await runTool(scratch, `${name}-save`, [], { env: LOCK_ENVIRONMENT }),
    await runTool(scratch, `${name}-restore`, ['--noflush'], { input: TRIAL, env: LOCK_ENVIRONMENT }),
  ];
  return steps.every(step => step?.code === 0);
}

async function hasRules(node: NetNs, { names }: IptablesBinary): Promise<boolean> {
  const saved = await runTool(node, `${names[4]}-save`, []);
  return saved?.code === 0 && SOME_RULE.test(saved.stdout);
}

function isAtLeast(version: string, wanted: readonly number[]): boolean {
  const parts = version.split('.').map(Number);
  for (const [i, number] of wanted.entries()) {
    const part = parts[i] ?? 0;
    if (part !== number) return part > number;
  }
  return true;
}
