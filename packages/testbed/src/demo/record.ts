// What the demo reads of a proxy's connection record (AMBIT_RECORDS_PATH): a narrow view that checks the shape itself,
// because records come from another process. A line that is no record gives undefined.

export interface SeenTls {
  readonly version: string;
  readonly suite: string;
  readonly group: string;
}

export interface SeenPeer {
  readonly ip: string;
  /** `namespace/name`, as the mesh knows the address; no proof. */
  readonly name: string | undefined;
  /** SPIFFE ID that mutual TLS proved. */
  readonly identity: string | undefined;
}

export interface SeenRecord {
  readonly event: 'open' | 'close' | 'refused';
  readonly direction: 'outbound' | 'inbound';
  readonly protocol: string;
  readonly source: SeenPeer;
  readonly destination: SeenPeer;
  readonly tls: SeenTls | undefined;
  readonly bytes: number;
  readonly reason: string | undefined;
  readonly error: string | undefined;
  readonly policy: string | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/** A line of the stream; undefined for anything else, such as the note about dropped records. */
export function readRecord(line: string): SeenRecord | undefined {
  const json = parseObject(line);
  if (json === undefined) return undefined;
  const event = oneOf(json['event'], ['open', 'close', 'refused'] as const);
  const direction = oneOf(json['direction'], ['outbound', 'inbound'] as const);
  const source = readPeer(json['source']);
  const destination = readPeer(json['destination']);
  if (event === undefined || direction === undefined || source === undefined || destination === undefined) {
    return undefined;
  }
  return {
    event,
    direction,
    protocol: text(json['protocol']) ?? 'unknown',
    source,
    destination,
    tls: readTls(json['tls']),
    bytes: count(json['bytesToServer']) + count(json['bytesToClient']),
    reason: text(json['reason']),
    error: text(json['error']),
    policy: text(json['policy']),
  };
}

/** How many records a proxy says it dropped in this line. */
export function droppedIn(line: string): number {
  const json = parseObject(line);
  return json?.['event'] === 'dropped' ? count(json['count']) : 0;
}

function parseObject(line: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function readPeer(value: unknown): SeenPeer | undefined {
  if (!isObject(value) || !isObject(value['address'])) return undefined;
  const ip = text(value['address']['ip']);
  if (ip === undefined) return undefined;
  const workload = isObject(value['workload']) ? value['workload'] : {};
  const [namespace, name] = [text(workload['namespace']), text(workload['name'])];
  const isKnown = namespace !== undefined && name !== undefined;
  return { ip, name: isKnown ? `${namespace}/${name}` : undefined, identity: text(value['identity']) };
}

function readTls(value: unknown): SeenTls | undefined {
  if (!isObject(value)) return undefined;
  const [version, suite, group] = [text(value['version']), text(value['suite']), text(value['group'])];
  if (version === undefined || suite === undefined || group === undefined) return undefined;
  return { version, suite, group };
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function count(value: unknown): number {
  return typeof value === 'number' && value > 0 ? value : 0;
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[]): T | undefined {
  return allowed.find(word => word === value);
}
