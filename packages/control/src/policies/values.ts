// The values of an AuthorizationPolicy as `istio.security.Match` carries them. A value that cannot be read is left out and
// counted: whoever builds the match decides what that means, because dropping one quietly can widen a policy.
import { ipToBytes, parseCidr } from '@ambit/mesh';
import type { AuthorizationInit } from '@ambit/wire/resources';
import type { Findings } from './findings.ts';

export type GroupInit = NonNullable<AuthorizationInit['groups']>[number];
export type RulesInit = NonNullable<GroupInit['rules']>[number];
export type MatchInit = NonNullable<RulesInit['matches']>[number];
export type StringMatchInit = NonNullable<MatchInit['principals']>[number];
export type BlockInit = NonNullable<MatchInit['sourceIps']>[number];
export type AccountInit = NonNullable<MatchInit['serviceAccounts']>[number];

/** One list of the policy, converted. */
export interface Converted<T> {
  readonly values: T[];
  /** How many values could not be read. */
  readonly invalid: number;
}

/** Where a list stands and who is told about its bad values. */
export interface ListContext {
  readonly findings: Findings;
  /** Path of the list. */
  readonly path: string;
  /** Namespace of the policy, for service accounts written without one. */
  readonly namespace: string;
}

type Reader<T> = (text: string, context: ListContext, path: string) => T | undefined;

export function convertList<T>(texts: readonly string[], context: ListContext, read: Reader<T>): Converted<T> {
  const values: T[] = [];
  for (const [index, text] of texts.entries()) {
    const value = read(text, context, `${context.path}[${index}]`);
    if (value !== undefined) values.push(value);
  }
  return { values, invalid: texts.length - values.length };
}

/** `*` anything, `*x` suffix, `x*` prefix, else exact. The empty text would match callers without an identity: refused. */
export function readText(text: string, { findings }: ListContext, path: string): StringMatchInit | undefined {
  if (text === '') {
    findings.add(
      'error',
      'policy.empty_value',
      path,
      'an empty text names nobody',
      'remove it, or write * for anybody',
    );
    return undefined;
  }
  if (text === '*') return { matchType: { case: 'presence', value: {} } };
  const isSuffix = text.startsWith('*');
  const isPrefix = !isSuffix && text.endsWith('*');
  const value = isSuffix ? text.slice(1) : isPrefix ? text.slice(0, -1) : text;
  if (value.includes('*')) {
    const message = `"${text}" has a * that stands for itself; only one at the start or the end is a pattern`;
    findings.add('warning', 'policy.bad_pattern', path, message, 'use exact values, a prefix (x*) or a suffix (*x)');
  }
  return { matchType: { case: isSuffix ? 'suffix' : isPrefix ? 'prefix' : 'exact', value } };
}

/** Decimal, 0..65535. */
export function readPort(text: string, { findings }: ListContext, path: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (port <= 65_535) return port;
  const message = `"${text}" is no port number`;
  findings.add(
    'error',
    'policy.bad_port',
    path,
    message,
    'write the number of the container port; names are not resolved',
  );
  return undefined;
}

/** An address or a block; host bits stay as they are written. */
export function readBlock(text: string, { findings }: ListContext, path: string): BlockInit | undefined {
  const cidr = parseCidr(text);
  if (cidr !== undefined) return { address: ipToBytes(cidr.ip), length: cidr.length };
  const message = `"${text}" is neither an IP address nor a block such as 10.0.0.0/8`;
  findings.add(
    'error',
    'policy.bad_ip',
    path,
    message,
    'write an address or a CIDR block; host names are not resolved',
  );
  return undefined;
}

/** `namespace/account`, or `account` in the namespace of the policy; compared exactly, in every trust domain. */
export function readAccount(text: string, { findings, namespace }: ListContext, path: string): AccountInit | undefined {
  const parts = text.split('/');
  const [first = '', second] = parts;
  const account =
    second === undefined ? { namespace, serviceAccount: first } : { namespace: first, serviceAccount: second };
  const isValid = parts.length <= 2 && account.namespace !== '' && account.serviceAccount !== '' && !text.includes('*');
  if (isValid) return account;
  const message = `"${text}" is no service account`;
  const remedy = 'write namespace/account, or account; patterns are only for principals';
  findings.add('error', 'policy.bad_service_account', path, message, remedy);
  return undefined;
}
