// Guards around the variables themselves: misspelt ones of ours, and upstream's whose feature this version lacks.
// Security fails closed: ignoring a variable that hardens the mesh is refused; the rest becomes a warning.
import { nearestName } from '@ambit/mesh';
import { ZtunnelError } from '../errors.ts';
import type { Environment } from './env-reader.ts';

/** Every variable of ours that the node proxy reads. */
const OWN_NAMES = [
  'AMBIT_ACCESS_LOG_FILTER',
  'AMBIT_ACCESS_LOG_RATE',
  'AMBIT_ACCESS_LOG_SAMPLE',
  'AMBIT_BIND_ADDRESS',
  'AMBIT_DEV_CA_CERT',
  'AMBIT_DEV_CA_KEY',
  'AMBIT_FORWARD',
  'AMBIT_L7',
  'AMBIT_L7_METHOD',
  'AMBIT_L7_PATH',
  'AMBIT_MEMORY_BUDGET',
  'AMBIT_METRICS_ADDRESS',
  'AMBIT_METRICS_IDLE',
  'AMBIT_METRICS_MAX_SERIES',
  'AMBIT_RECORDS_PATH',
  'AMBIT_RESOLV_CONF',
  'AMBIT_TLS_RECORDS',
] as const;
/** Variables of other parts of Ambit that a proxy may inherit: the test bed's sandbox marks its inside. */
const FOREIGN_PREFIXES = ['AMBIT_SANDBOX', 'AMBIT_TEST', 'AMBIT_BENCH'] as const;

/** @throws config.invalid for an `AMBIT_` name that nobody reads */
export function checkAmbitNames(env: Environment): void {
  for (const name of Object.keys(env)) {
    if (!name.startsWith('AMBIT_') || env[name] === undefined) continue;
    if (OWN_NAMES.some(own => own === name) || FOREIGN_PREFIXES.some(prefix => name.startsWith(prefix))) continue;
    const nearest = nearestName(name, OWN_NAMES);
    const hint = nearest === undefined ? `known: ${OWN_NAMES.join(', ')}` : `did you mean ${nearest}?`;
    throw new ZtunnelError('config.invalid', `invalid env var ${name}=${env[name]} (unknown name; ${hint})`);
  }
}

interface Unsupported {
  readonly name: string;
  readonly asksFor: (value: string) => boolean;
  readonly why: string;
}

const REFUSED: readonly Unsupported[] = [
  { name: 'FAKE_CA', asksFor: isTrue, why: 'use AMBIT_DEV_CA_CERT and AMBIT_DEV_CA_KEY for development' },
  { name: 'ENABLE_PROXY', asksFor: value => value === 'false', why: 'this version is the proxy and nothing else' },
];

const WARNED: readonly Unsupported[] = [{ name: 'TLS12_ENABLED', asksFor: isTrue, why: 'only TLS 1.3 is spoken' }];

/** Warnings about ignored variables. @throws config.unsupported */
export function checkUnsupported(env: Environment): readonly string[] {
  for (const { name, asksFor, why } of REFUSED) {
    const value = env[name];
    if (value !== undefined && asksFor(value)) {
      throw new ZtunnelError('config.unsupported', `invalid env var ${name}=${value} (${why})`);
    }
  }
  const warnings: string[] = [];
  for (const { name, asksFor, why } of WARNED) {
    const value = env[name];
    if (value !== undefined && asksFor(value)) warnings.push(`${name}=${value} has no effect: ${why}`);
  }
  return warnings;
}

function isTrue(value: string): boolean {
  return value === 'true';
}
