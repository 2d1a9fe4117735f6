// Delta responses as bytes, written by hand so that one encoding of a resource serves every node: a response is its own
// head and tail around entries that are shared. The bytes are those a protobuf library would write for the message.
// Field numbers: proto/discovery.proto, and google.protobuf.Any.
import { fromBinary, toBinary, create } from '@bufbuild/protobuf';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '../gen/citadel_pb.ts';
import { type DeltaDiscoveryRequest, DeltaDiscoveryRequestSchema } from '../gen/discovery_pb.ts';
import { checkDeltaRequest } from './request-bounds.ts';
import { GrpcError } from './status.ts';

export type DeltaRequest = DeltaDiscoveryRequest;

export interface ResourceInit {
  readonly name: string;
  /** May be empty. */
  readonly version: string;
  readonly aliases: readonly string[];
  readonly typeUrl: string;
  /** The encoded message that the Any holds. */
  readonly value: Uint8Array;
}

export interface DeltaResponseInit {
  readonly systemVersionInfo: string;
  readonly typeUrl: string;
  readonly nonce: string;
  readonly removed: readonly string[];
  /** Runs of entries from `encodeResourceEntries`, in order. They are shared, never copied when long, and never written to. */
  readonly entries: readonly Uint8Array[];
}

// Tags of length-delimited fields: number << 3 | 2.
const RESPONSE_VERSION = 0x0a;
const RESPONSE_RESOURCE = 0x12;
const RESPONSE_TYPE_URL = 0x22;
const RESPONSE_NONCE = 0x2a;
const RESPONSE_REMOVED = 0x32;
const RESOURCE_VERSION = 0x0a;
const RESOURCE_ANY = 0x12;
const RESOURCE_NAME = 0x1a;
const RESOURCE_ALIAS = 0x22;
const ANY_TYPE_URL = 0x0a;
const ANY_VALUE = 0x12;

/** The encoded `envoy.service.discovery.v3.Resource`. */
export function encodeResource(resource: ResourceInit): Uint8Array {
  const size = resourceSize(resource);
  const writer = new Writer(size.resource);
  writeResource(writer, resource, size);
  return writer.bytes;
}

/** Entries of the field `resources` of a delta response, each with its tag and length, one after the other. */
export function encodeResourceEntries(resources: readonly ResourceInit[]): Uint8Array {
  const sizes = resources.map(resourceSize);
  const writer = new Writer(sizes.reduce((sum, { resource }) => sum + 1 + varintSize(resource) + resource, 0));
  resources.forEach((resource, index) => {
    const size = sizes[index] ?? resourceSize(resource);
    writer.tag(RESPONSE_RESOURCE, size.resource);
    writeResource(writer, resource, size);
  });
  return writer.bytes;
}

/** The parts of an encoded DeltaDiscoveryResponse, to be sent one after the other. */
export function encodeDeltaResponse(response: DeltaResponseInit): readonly Uint8Array[] {
  const head = new Writer(stringSize(response.systemVersionInfo));
  head.string(RESPONSE_VERSION, response.systemVersionInfo);
  const tailSize =
    stringSize(response.typeUrl) +
    stringSize(response.nonce) +
    response.removed.reduce((sum, name) => sum + elementSize(Buffer.byteLength(name)), 0);
  const tail = new Writer(tailSize);
  tail.string(RESPONSE_TYPE_URL, response.typeUrl);
  tail.string(RESPONSE_NONCE, response.nonce);
  for (const name of response.removed) tail.element(RESPONSE_REMOVED, name);
  return [head.bytes, ...response.entries, tail.bytes];
}

/** @throws GrpcError invalid_argument; resource_exhausted when it would take far more memory than it has bytes */
export function decodeDeltaRequest(bytes: Uint8Array): DeltaRequest {
  checkDeltaRequest(bytes);
  try {
    return fromBinary(DeltaDiscoveryRequestSchema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new GrpcError('invalid_argument', 'the message is no DeltaDiscoveryRequest', { cause });
  }
}

export interface CertificateRequest {
  /** PEM text, as it came. */
  readonly csr: string;
  readonly validityDurationSeconds: bigint;
  /** The Struct `metadata` as JSON; empty when there was none. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** @throws GrpcError invalid_argument */
export function decodeCertificateRequest(bytes: Uint8Array): CertificateRequest {
  try {
    const { csr, validityDuration, metadata } = fromBinary(IstioCertificateRequestSchema, bytes);
    return { csr, validityDurationSeconds: validityDuration, metadata: metadata ?? {} };
  } catch (cause) {
    throw new GrpcError('invalid_argument', 'the message is no IstioCertificateRequest', { cause });
  }
}

/** PEM texts, leaf first, root last. */
export function encodeCertificateResponse(certChain: readonly string[]): Uint8Array {
  return toBinary(
    IstioCertificateResponseSchema,
    create(IstioCertificateResponseSchema, { certChain: [...certChain] }),
  );
}

interface ResourceSize {
  readonly resource: number;
  readonly any: number;
}

function resourceSize({ name, version, aliases, typeUrl, value }: ResourceInit): ResourceSize {
  const any = stringSize(typeUrl) + (value.length === 0 ? 0 : elementSize(value.length));
  let resource = stringSize(version) + elementSize(any) + stringSize(name);
  for (const alias of aliases) resource += elementSize(Buffer.byteLength(alias));
  return { resource, any };
}

function writeResource(writer: Writer, { name, version, aliases, typeUrl, value }: ResourceInit, size: ResourceSize) {
  writer.string(RESOURCE_VERSION, version);
  writer.tag(RESOURCE_ANY, size.any);
  writer.string(ANY_TYPE_URL, typeUrl);
  if (value.length > 0) {
    writer.tag(ANY_VALUE, value.length);
    writer.raw(value);
  }
  writer.string(RESOURCE_NAME, name);
  for (const alias of aliases) writer.element(RESOURCE_ALIAS, alias);
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** A length-delimited field with a one-byte tag. */
function elementSize(bytes: number): number {
  return 1 + varintSize(bytes) + bytes;
}

/** A singular string: absent when empty, as proto3 has it. */
function stringSize(text: string): number {
  return text === '' ? 0 : elementSize(Buffer.byteLength(text));
}

/** Fills a buffer whose size was computed before. */
class Writer {
  readonly bytes: Buffer;
  #at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
  }

  tag(tag: number, length: number): void {
    this.bytes[this.#at++] = tag;
    let rest = length;
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.bytes[this.#at++] = (rest % 128) | 0x80;
    this.bytes[this.#at++] = rest;
  }

  string(tag: number, text: string): void {
    if (text !== '') this.element(tag, text);
  }

  element(tag: number, text: string): void {
    this.tag(tag, Buffer.byteLength(text));
    this.#at += this.bytes.write(text, this.#at, 'utf8');
  }

  raw(value: Uint8Array): void {
    this.bytes.set(value, this.#at);
    this.#at += value.length;
  }
}
