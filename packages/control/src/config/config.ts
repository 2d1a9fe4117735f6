// From flags, environment and a configuration file to one frozen set of values. Every mistake names the option as the
// person spelled it, what was expected, and the nearest name that exists.
import { readFileSync } from 'node:fs';
import { isLoopback, nearestName, parseIp } from '@ambit/mesh';
import { parse as parseYaml } from 'yaml';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';
import type { MeshSettings } from '../settings.ts';
import { flagOf, OPTIONS, type OptionName, type OptionValues } from './options.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface ControlConfig extends OptionValues {
  readonly settings: MeshSettings;
  /** What `kubernetes` comes to here: which API server is a source, if any. */
  readonly cluster: 'none' | 'in-cluster' | 'kubeconfig';
  /** Where each value came from, for the log and the admin port. */
  readonly origins: Readonly<Record<string, 'flag' | 'environment' | 'file' | 'default'>>;
}

/** Flag values by option name, as commander gives them. */
export type Flags = Readonly<Record<string, string | undefined>>;

const NAMES = Object.keys(OPTIONS) as OptionName[];
const MAX_FILE_BYTES = 1_048_576;

/** @throws ControlError config.invalid, config.unknown_option, config.no_such_path */
export function readConfig(flags: Flags, env: Environment, file: string | undefined): ControlConfig {
  const fromFile = file === undefined ? {} : readFile(file);
  checkOwnVariables(env);
  const values: Record<string, unknown> = {};
  const origins: Record<string, 'flag' | 'environment' | 'file' | 'default'> = {};
  for (const name of NAMES) {
    const { env: variable, fallback } = OPTIONS[name];
    const byEnvironment = variable === undefined ? undefined : env[variable];
    const [origin, spelled, text] =
      flags[name] !== undefined
        ? (['flag', flagOf(name), flags[name]] as const)
        : byEnvironment !== undefined
          ? (['environment', variable, byEnvironment] as const)
          : fromFile[name] !== undefined
            ? (['file', `${file}: ${name}`, fromFile[name]] as const)
            : (['default', name, undefined] as const);
    origins[name] = origin;
    // An empty variable is how manifests say "not set"; where empty means something, the parser takes it.
    values[name] = text === undefined ? fallback : parseValue(name, spelled ?? name, text);
  }
  const read = values as OptionValues;
  checkTogether(read);
  return Object.freeze({ ...read, settings: settingsOf(read), cluster: clusterOf(read, env), origins });
}

function parseValue(name: OptionName, spelled: string, text: string): unknown {
  const { parse, fallback } = OPTIONS[name];
  const parsed = parse(text);
  if (parsed.ok) return parsed.value;
  if (text === '' && spelled === OPTIONS[name].env) return fallback;
  throw new ControlError('config.invalid', `${spelled}=${text}: expected ${parsed.expected}`);
}

function readFile(file: string): Readonly<Record<string, string>> {
  let content: unknown;
  try {
    const text = readFileSync(file, 'utf8');
    if (text.length > MAX_FILE_BYTES) throw new ControlError('config.invalid', `${file}: larger than 1 MiB`);
    content = parseYaml(text, { maxAliasCount: 0 }) ?? {};
  } catch (error) {
    if (error instanceof ControlError) throw error;
    const reason = errorText(error);
    throw new ControlError('config.invalid', `cannot read the configuration file ${file}: ${reason}`, { cause: error });
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new ControlError(
      'config.invalid',
      `${file}: expected options, one a line, such as "trustDomain: example.org"`,
    );
  }
  const options: Record<string, string> = {};
  for (const [key, value] of Object.entries(content)) {
    if (!(key in OPTIONS)) throw unknownOption(`${file}: ${key}`, key, NAMES);
    const isList = Array.isArray(value) && value.every(item => typeof item !== 'object');
    if (!isList && typeof value === 'object')
      throw new ControlError('config.invalid', `${file}: ${key}: expected a value`);
    options[key] = isList ? value.join(',') : String(value);
  }
  return options;
}

/** An address, or the one name that every machine keeps for itself; a name that only looks like an address is a name. */
function isLoopbackHost(host: string): boolean {
  const ip = parseIp(host);
  return ip === undefined ? host === 'localhost' : isLoopback(ip);
}

/** A variable of ours that nothing reads is a spelling mistake; other programs' variables are theirs. */
function checkOwnVariables(env: Environment): void {
  const known = NAMES.flatMap(name => OPTIONS[name].env ?? []);
  for (const variable of Object.keys(env)) {
    // Tests and benchmarks pass words of theirs through whatever they start.
    if (!variable.startsWith('AMBIT_') || /^AMBIT_(TEST|BENCH)_/.test(variable)) continue;
    if (!known.includes(variable) && !OTHERS.has(variable)) throw unknownOption(variable, variable, known);
  }
}

/** Ours, but read by others: the launcher, the node proxy, the test bed. */
const OTHERS: ReadonlySet<string> = new Set([
  'AMBIT_BIND_ADDRESS',
  'AMBIT_CONFIG',
  'AMBIT_DEV_CA_CERT',
  'AMBIT_DEV_CA_KEY',
  'AMBIT_FORWARD',
  'AMBIT_MEMORY_BUDGET',
  'AMBIT_RECORDS_PATH',
  'AMBIT_SANDBOX',
  'AMBIT_SANDBOX_MODE',
  'AMBIT_TLS_RECORDS',
]);

function checkTogether(values: OptionValues): void {
  const { grpcAddress, maxTtl, defaultTtl, debounce, debounceMax } = values;
  if (grpcAddress !== 'off' && !isLoopbackHost(grpcAddress.host)) {
    throw new ControlError(
      'config.invalid',
      `the plaintext port would listen on ${grpcAddress.host}, not on loopback`,
      {
        next: 'use --secure-grpc-address for other machines; it needs no more than a token there',
      },
    );
  }
  if (defaultTtl > maxTtl) throw new ControlError('config.invalid', 'the default certificate life exceeds the longest');
  if (debounce > debounceMax) throw new ControlError('config.invalid', '--debounce exceeds --debounce-max');
}

/** In a pod its own API server is a source, unless there are files; elsewhere one is only when asked for. */
function clusterOf({ kubernetes, files }: OptionValues, env: Environment): ControlConfig['cluster'] {
  if (kubernetes === 'off') return 'none';
  if (kubernetes !== 'auto') return kubernetes;
  return env['KUBERNETES_SERVICE_HOST'] !== undefined && files.length === 0 ? 'in-cluster' : 'none';
}

function settingsOf(values: OptionValues): MeshSettings {
  return {
    trustDomain: values.trustDomain,
    clusterDomain: values.domain,
    clusterId: values.clusterId,
    network: values.network,
    rootNamespace: values.rootNamespace,
    dryRunPolicies: values.dryRunPolicies,
    autoAllowWaypoints: values.autoAllowWaypoints,
    allocateAddresses: values.allocateAddresses,
    revision: values.revision,
  };
}

function unknownOption(where: string, name: string, known: readonly string[]): ControlError {
  const nearest = nearestName(name, known);
  const hint = nearest === undefined ? {} : { next: `did you mean ${nearest}?` };
  return new ControlError('config.unknown_option', `${where}: there is no such option`, hint);
}
