// ZDS packets as small tagged unions, both directions. One message is one SEQPACKET packet of at most 1024 bytes; the
// network namespace of an `add` travels beside the bytes and is the business of whoever owns the socket. Decoders read
// bytes of a peer: whatever these are, the outcome is a value or a WireError. See spec of Istio's proto/zds.proto.
import { WireError } from './errors.ts';
import {
  type Fields,
  flagField,
  messageField,
  numberField,
  readMessage,
  textField,
  writeMessage,
  writeNumber,
  writeText,
  writeWithin,
} from './plain-fields.ts';

// Numbers of fields, as in proto/zds.proto.
const HELLO = { version: 1, canary: 1000 } as const;
const REQUEST = { add: 1, del: 2, snapshotSent: 3, keep: 5 } as const;
const ADD = { uid: 1, info: 2 } as const;
const KEEP = { uid: 1 } as const;
const DEL = { uid: 2 } as const;
const INFO = { name: 1, namespace: 2, serviceAccount: 3, l7: 1000 } as const;
const RESPONSE = { ack: 1 } as const;
const ACK = { error: 1 } as const;

const VERSION_1 = 1;

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
  return writeMessage(writer => {
    writeNumber(writer, HELLO.version, VERSION_1);
    writeNumber(writer, HELLO.canary, hello.canary ? 1 : 0);
  });
}

/** @throws wire.too_long, wire.malformed, wire.version */
export function decodeHello(bytes: Uint8Array): Hello {
  let version = 0;
  let canary = false;
  decode('ZdsHello', bytes, {
    [HELLO.version]: numberField(value => (version = value)),
    [HELLO.canary]: flagField(value => (canary = value)),
  });
  if (version !== VERSION_1) throw new WireError('wire.version', `ZDS version ${version}, only 1 is known`);
  return { version: 'V1', canary };
}

/** What `l7` says is left out where only that does not fit. @throws wire.too_long when the names do not fit one packet, wire.no_uid */
export function encodeRequest(request: WorkloadRequest): Uint8Array {
  if (request.kind !== 'snapshotSent') requireUid(request.uid, request.kind);
  const bytes = encode(request);
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
  const { kind, uid, info } = readPayload(bytes);
  if (kind === undefined) {
    throw new WireError('wire.no_payload', 'ZDS request without a payload this version knows');
  }
  if (kind === 'snapshotSent') return { kind };
  requireUid(uid, kind);
  if (kind !== 'add') return { kind, uid };
  if (info === undefined) throw new WireError('wire.no_workload_info', 'ZDS add without workload info');
  const { l7, ...names } = info;
  return { kind, uid, info: l7 === '' ? names : info };
}

interface Payload {
  readonly kind: WorkloadRequest['kind'] | undefined;
  uid: string;
  info: { name: string; namespace: string; serviceAccount: string; l7: string } | undefined;
}

/** One of several: the last kind holds, and parts of it that follow each other are one. */
function readPayload(bytes: Uint8Array): Payload {
  let payload: Payload = { kind: undefined, uid: '', info: undefined };
  const begin = (kind: WorkloadRequest['kind']): Payload => {
    if (payload.kind !== kind) payload = { kind, uid: '', info: undefined };
    return payload;
  };
  const uidOf = (of: Payload) => textField(uid => (of.uid = uid));
  decode('WorkloadRequest', bytes, {
    [REQUEST.add]: messageField(() => {
      const add = begin('add');
      return { [ADD.uid]: uidOf(add), [ADD.info]: messageField(() => infoFields(add)) };
    }),
    [REQUEST.keep]: messageField(() => ({ [KEEP.uid]: uidOf(begin('keep')) })),
    [REQUEST.del]: messageField(() => ({ [DEL.uid]: uidOf(begin('del')) })),
    [REQUEST.snapshotSent]: messageField(() => {
      begin('snapshotSent');
      return {};
    }),
  });
  return payload;
}

function infoFields(add: Payload): Fields {
  const info = (add.info ??= { name: '', namespace: '', serviceAccount: '', l7: '' });
  return {
    [INFO.name]: textField(text => (info.name = text)),
    [INFO.namespace]: textField(text => (info.namespace = text)),
    [INFO.serviceAccount]: textField(text => (info.serviceAccount = text)),
    [INFO.l7]: textField(text => (info.l7 = text)),
  };
}

/**
 * Success without an argument, else a failure with this text. A text that does not fit the packet is cut, because a
 * shortened reason is worth more to the agent than a broken connection; an empty one becomes words, because an empty
 * error means success.
 */
export function encodeAck(error?: string): Uint8Array {
  const text = error === undefined ? '' : error === '' ? 'unspecified error' : cutToBytes(error, MAX_ERROR_BYTES);
  return writeMessage(writer => writeWithin(writer, RESPONSE.ack, ack => writeText(ack, ACK.error, text)));
}

/** @throws wire.too_long, wire.malformed, wire.no_payload */
export function decodeAck(bytes: Uint8Array): Ack {
  let error: string | undefined;
  decode('WorkloadResponse', bytes, {
    [RESPONSE.ack]: messageField(() => {
      error ??= '';
      return { [ACK.error]: textField(text => (error = text)) };
    }),
  });
  if (error === undefined) throw new WireError('wire.no_payload', 'ZDS response without an ack');
  return error === '' ? { kind: 'ok' } : { kind: 'failed', error };
}

/** Two nested length-delimited fields around the text: a tag byte and at most two length bytes each. */
const MAX_ERROR_BYTES = MAX_ZDS_PACKET_BYTES - 2 * 3;

function encode(request: WorkloadRequest): Uint8Array {
  return writeMessage(writer => {
    switch (request.kind) {
      case 'add': {
        const { name, namespace, serviceAccount, l7 = '' } = request.info;
        writeWithin(writer, REQUEST.add, add => {
          writeText(add, ADD.uid, request.uid);
          writeWithin(add, ADD.info, info => {
            writeText(info, INFO.name, name);
            writeText(info, INFO.namespace, namespace);
            writeText(info, INFO.serviceAccount, serviceAccount);
            writeText(info, INFO.l7, l7);
          });
        });
        return;
      }
      case 'keep':
        writeWithin(writer, REQUEST.keep, keep => writeText(keep, KEEP.uid, request.uid));
        return;
      case 'del':
        writeWithin(writer, REQUEST.del, del => writeText(del, DEL.uid, request.uid));
        return;
      case 'snapshotSent':
        writeWithin(writer, REQUEST.snapshotSent, () => undefined);
        return;
    }
  });
}

function requireUid(uid: string, kind: string): void {
  if (uid === '') throw new WireError('wire.no_uid', `ZDS ${kind} without a uid`);
}

function decode(name: string, bytes: Uint8Array, fields: Fields): void {
  if (bytes.length > MAX_ZDS_PACKET_BYTES) {
    throw new WireError('wire.too_long', `ZDS packet of more than ${MAX_ZDS_PACKET_BYTES} bytes`);
  }
  try {
    readMessage(bytes, fields);
  } catch (cause) {
    throw new WireError('wire.malformed', `not a ${name} of ZDS`, { cause });
  }
}

/** The longest prefix of whole characters within `maxBytes` of UTF-8. */
function cutToBytes(text: string, maxBytes: number): string {
  const target = new Uint8Array(maxBytes);
  const { read } = new TextEncoder().encodeInto(text, target);
  // encodeInto writes U+FFFD for a lone surrogate; the encoder of the library would refuse one.
  return text.slice(0, read).toWellFormed();
}
