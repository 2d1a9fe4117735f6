// ZDS packets as small tagged unions, both directions. One message is one SEQPACKET packet of at most 1024 bytes; the
// network namespace of an `add` travels beside the bytes and is the business of whoever owns the socket. Decoders read
// bytes of a peer: whatever these are, the outcome is a value or a WireError. See spec of Istio's proto/zds.proto.
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { WireError } from './errors.ts';
import {
  AckSchema,
  Version,
  WorkloadRequestSchema,
  WorkloadResponseSchema,
  type WorkloadRequest as WorkloadRequestMessage,
  ZdsHelloSchema,
} from './gen/zds_pb.ts';

/** Both ends read with a buffer of this size, so a longer packet would arrive cut off. */
export const MAX_ZDS_PACKET_BYTES = 1024;

/** Who a pod is. `serviceAccount` is half of its identity; the trust domain is the mesh's. */
export interface WorkloadInfo {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The text of the annotation `ambit.io/l7`, which peers other than ours neither say nor hear; absent: none. */
  readonly l7?: string | undefined;
}

/** What a node agent asks of the proxy. `uid` is opaque and the same in every request about one pod. */
export type WorkloadRequest =
  | { readonly kind: 'add'; readonly uid: string; readonly info: WorkloadInfo }
  | { readonly kind: 'keep'; readonly uid: string }
  | { readonly kind: 'del'; readonly uid: string }
  | { readonly kind: 'snapshotSent' };

/** The proxy's answer to exactly one request, in order. */
export type Ack = { readonly kind: 'ok' } | { readonly kind: 'failed'; readonly error: string };

export interface Hello {
  readonly version: 'V1';
  /** Pods of this proxy have a canary (see @ambit/mesh); Istio's have none. */
  readonly canary: boolean;
}

/** The proxy's first packet. */
export function encodeHello(hello: Pick<Hello, 'canary'> = { canary: false }): Uint8Array {
  return toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: Version.V1, ambitCanary: hello.canary }));
}

/** @throws wire.too_long, wire.malformed, wire.version */
export function decodeHello(bytes: Uint8Array): Hello {
  const { version, ambitCanary } = decode(ZdsHelloSchema, bytes);
  if (version !== Version.V1) throw new WireError('wire.version', `ZDS version ${version}, only 1 is known`);
  return { version: 'V1', canary: ambitCanary };
}

/** What `l7` says is left out where only that does not fit. @throws wire.too_long when the names do not fit one packet, wire.no_uid */
export function encodeRequest(request: WorkloadRequest): Uint8Array {
  if (request.kind !== 'snapshotSent') requireUid(request.uid, request.kind);
  const bytes = toBinary(WorkloadRequestSchema, toMessage(request));
  if (bytes.length > MAX_ZDS_PACKET_BYTES) {
    if (request.kind === 'add' && request.info.l7 !== undefined) {
      return encodeRequest({ ...request, info: { ...request.info, l7: undefined } });
    }
    throw new WireError('wire.too_long', `ZDS ${request.kind} takes ${bytes.length} bytes of ${MAX_ZDS_PACKET_BYTES}`);
  }
  return bytes;
}

/** @throws wire.too_long, wire.malformed, wire.no_payload, wire.no_uid, wire.no_workload_info */
export function decodeRequest(bytes: Uint8Array): WorkloadRequest {
  const { payload } = decode(WorkloadRequestSchema, bytes);
  switch (payload.case) {
    case 'add': {
      const { uid, workloadInfo } = payload.value;
      requireUid(uid, 'add');
      if (workloadInfo === undefined) throw new WireError('wire.no_workload_info', 'ZDS add without workload info');
      const { name, namespace, serviceAccount, ambitL7 } = workloadInfo;
      const l7 = ambitL7 === '' ? {} : { l7: ambitL7 };
      return { kind: 'add', uid, info: { name, namespace, serviceAccount, ...l7 } };
    }
    case 'keep':
    case 'del':
      requireUid(payload.value.uid, payload.case);
      return { kind: payload.case, uid: payload.value.uid };
    case 'snapshotSent':
      return { kind: 'snapshotSent' };
    case undefined:
      throw new WireError('wire.no_payload', 'ZDS request without a payload this version knows');
  }
}

/**
 * Success without an argument, else a failure with this text. A text that does not fit the packet is cut, because a
 * shortened reason is worth more to the agent than a broken connection; an empty one becomes words, because an empty
 * error means success.
 */
export function encodeAck(error?: string): Uint8Array {
  const text = error === undefined ? '' : error === '' ? 'unspecified error' : cutToBytes(error, MAX_ERROR_BYTES);
  const ack = create(AckSchema, { error: text });
  return toBinary(WorkloadResponseSchema, create(WorkloadResponseSchema, { payload: { case: 'ack', value: ack } }));
}

/** @throws wire.too_long, wire.malformed, wire.no_payload */
export function decodeAck(bytes: Uint8Array): Ack {
  const { payload } = decode(WorkloadResponseSchema, bytes);
  if (payload.case === undefined) throw new WireError('wire.no_payload', 'ZDS response without an ack');
  const { error } = payload.value;
  return error === '' ? { kind: 'ok' } : { kind: 'failed', error };
}

/** Two nested length-delimited fields around the text: a tag byte and at most two length bytes each. */
const MAX_ERROR_BYTES = MAX_ZDS_PACKET_BYTES - 2 * 3;

function toMessage(request: WorkloadRequest): WorkloadRequestMessage {
  switch (request.kind) {
    case 'add': {
      const { name, namespace, serviceAccount, l7 = '' } = request.info;
      const value = { uid: request.uid, workloadInfo: { name, namespace, serviceAccount, ambitL7: l7 } };
      return create(WorkloadRequestSchema, { payload: { case: 'add', value } });
    }
    case 'keep':
    case 'del':
      return create(WorkloadRequestSchema, { payload: { case: request.kind, value: { uid: request.uid } } });
    case 'snapshotSent':
      return create(WorkloadRequestSchema, { payload: { case: 'snapshotSent', value: {} } });
  }
}

function requireUid(uid: string, kind: string): void {
  if (uid === '') throw new WireError('wire.no_uid', `ZDS ${kind} without a uid`);
}

function decode<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> {
  if (bytes.length > MAX_ZDS_PACKET_BYTES) {
    throw new WireError('wire.too_long', `ZDS packet of more than ${MAX_ZDS_PACKET_BYTES} bytes`);
  }
  try {
    // Unknown fields are skipped, not kept: nothing here is ever passed on.
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new WireError('wire.malformed', `not a ${schema.name} of ZDS`, { cause });
  }
}

/** The longest prefix of whole characters within `maxBytes` of UTF-8. */
function cutToBytes(text: string, maxBytes: number): string {
  const target = new Uint8Array(maxBytes);
  const { read } = new TextEncoder().encodeInto(text, target);
  // encodeInto writes U+FFFD for a lone surrogate; the encoder of the library would refuse one.
  return text.slice(0, read).toWellFormed();
}
