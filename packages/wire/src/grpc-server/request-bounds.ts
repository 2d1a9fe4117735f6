// Bounds on a delta request that are looked at before it is decoded: a name of no bytes costs two on the wire and a hundred
// as an object, so a message of the allowed length could decode to gigabytes. Only walks over the top-level fields, and
// refuses whatever it cannot walk over. Field numbers: proto/discovery.proto.
import { GrpcError } from './status.ts';

/** Names to subscribe, to unsubscribe and known versions together: more than the largest mesh has resources. */
export const MAX_REQUEST_NAMES = 500_000;
/** Of a name, a type or a nonce. The longest that a mesh makes have under 1 KiB. */
export const MAX_NAME_BYTES = 2_048;
/** Of the node with its metadata, and of an error. */
const MAX_PART_BYTES = 1024 * 1024;

interface Bound {
  readonly bytes: number;
  readonly isName: boolean;
}

const BOUNDS: ReadonlyMap<number, Bound> = new Map([
  [1, { bytes: MAX_PART_BYTES, isName: false }], // node
  [2, { bytes: MAX_NAME_BYTES, isName: false }], // type_url
  [3, { bytes: MAX_NAME_BYTES, isName: true }], // resource_names_subscribe
  [4, { bytes: MAX_NAME_BYTES, isName: true }], // resource_names_unsubscribe
  [5, { bytes: 2 * MAX_NAME_BYTES, isName: true }], // initial_resource_versions: name and version
  [6, { bytes: MAX_NAME_BYTES, isName: false }], // response_nonce
  [7, { bytes: MAX_PART_BYTES, isName: false }], // error_detail
]);

/** @throws GrpcError resource_exhausted; invalid_argument for what is no such request, however a decoder would take it */
export function checkDeltaRequest(bytes: Uint8Array): void {
  const cursor: Cursor = { bytes, at: 0 };
  let names = 0;
  while (cursor.at < bytes.length) {
    const tag = readVarint(cursor);
    const bound = BOUNDS.get(tag >>> 3);
    if (bound === undefined) {
      skip(cursor, tag & 7);
      continue;
    }
    // Decoders differ in what they make of a known field of another kind, and would then see other fields than we do.
    if ((tag & 7) !== 2) throw malformed();
    const length = readVarint(cursor);
    if (length > bound.bytes) {
      throw new GrpcError('resource_exhausted', `a field of ${length} bytes, ${bound.bytes} are allowed`);
    }
    if (bound.isName && ++names > MAX_REQUEST_NAMES) {
      throw new GrpcError('resource_exhausted', `more than ${MAX_REQUEST_NAMES} names in one request`);
    }
    advance(cursor, length);
  }
}

interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
}

/** A field that we do not know. Groups went out with proto2, and no decoder needs to be led into them. */
function skip(cursor: Cursor, wireType: number): void {
  if (wireType === 0) readVarint(cursor);
  else if (wireType === 1) advance(cursor, 8);
  else if (wireType === 2) advance(cursor, readVarint(cursor));
  else if (wireType === 5) advance(cursor, 4);
  else throw malformed();
}

function advance(cursor: Cursor, count: number): void {
  cursor.at += count;
  if (cursor.at > cursor.bytes.length) throw malformed();
}

/** Its low 32 bits, as decoders take tags and lengths; ten bytes at most. */
function readVarint(cursor: Cursor): number {
  let value = 0;
  for (let shift = 0; shift < 70; shift += 7) {
    const byte = cursor.bytes[cursor.at++];
    if (byte === undefined) break;
    if (shift < 32) value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value >>> 0;
  }
  throw malformed();
}

function malformed(): GrpcError {
  return new GrpcError('invalid_argument', 'the message is no DeltaDiscoveryRequest');
}
