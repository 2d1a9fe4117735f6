// Delta messages for tests, read and written field by field: shares nothing with the server's codec, so that a mistake of
// that one cannot hide behind itself. Every field these messages use is length-delimited.

export const DELTA_PATH = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';

export interface PlainRequest {
  /** `id`, and metadata of strings. */
  readonly node?: { readonly id: string } & Readonly<Record<string, string>>;
  readonly typeUrl: string;
  readonly subscribe?: readonly string[];
  readonly unsubscribe?: readonly string[];
  readonly known?: Readonly<Record<string, string>>;
  readonly nonce?: string;
  readonly error?: string;
}

export interface PlainResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: ReadonlyArray<{
    readonly name: string;
    readonly version: string;
    readonly typeUrl: string;
    readonly value: string;
    readonly aliases: readonly string[];
  }>;
  readonly removed: readonly string[];
}

export function encodeRequest(request: PlainRequest): Buffer {
  const { node, typeUrl, subscribe = [], unsubscribe = [], known = {}, nonce = '', error } = request;
  const parts = [field(2, typeUrl), field(6, nonce)];
  if (node !== undefined) {
    const { id, ...metadata } = node;
    const entries = Object.entries(metadata).map(([key, value]) => field(1, field(1, key), field(2, field(3, value))));
    parts.push(field(1, field(1, id), field(3, ...entries)));
  }
  parts.push(...subscribe.map(name => field(3, name)), ...unsubscribe.map(name => field(4, name)));
  parts.push(...Object.entries(known).map(([name, version]) => field(5, field(1, name), field(2, version))));
  if (error !== undefined) parts.push(field(7, field(2, error)));
  return Buffer.concat(parts);
}

export function decodeResponse(bytes: Buffer): PlainResponse {
  const response = fields(bytes);
  return {
    typeUrl: text(response, 4),
    nonce: text(response, 5),
    removed: (response.get(6) ?? []).map(String),
    resources: (response.get(2) ?? []).map(entry => {
      const resource = fields(entry);
      const any = fields(resource.get(2)?.[0] ?? Buffer.alloc(0));
      const aliases = (resource.get(4) ?? []).map(String);
      return {
        name: text(resource, 3),
        version: text(resource, 1),
        typeUrl: text(any, 1),
        value: text(any, 2),
        aliases,
      };
    }),
  };
}

/** A length-delimited field. */
export function field(number: number, ...content: ReadonlyArray<string | Buffer>): Buffer {
  const body = Buffer.concat(content.map(part => (typeof part === 'string' ? Buffer.from(part) : part)));
  return Buffer.concat([varint(number * 8 + 2), varint(body.length), body]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** Contents of length-delimited fields, by number. */
export function fields(bytes: Buffer): Map<number, Buffer[]> {
  const found = new Map<number, Buffer[]>();
  let at = 0;
  const next = () => {
    let [value, scale] = [0, 1];
    for (; (bytes[at] ?? 0) > 127; at++, scale *= 128) value += ((bytes[at] ?? 0) - 128) * scale;
    return value + (bytes[at++] ?? 0) * scale;
  };
  while (at < bytes.length) {
    const tag = next();
    const length = next();
    const number = Math.floor(tag / 8);
    const values = found.get(number) ?? [];
    found.set(number, values);
    values.push(bytes.subarray(at, at + length));
    at += length;
  }
  return found;
}

function text(found: Map<number, Buffer[]>, number: number): string {
  return String(found.get(number)?.[0] ?? '');
}
