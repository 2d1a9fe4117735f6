// Encoding of the two resource types, both ways, and the proto JSON form that people and golden files read. The encoding
// of equal input is equal: fields go out by number, and maps in the order they are given, so give them sorted.
import {
  create,
  fromBinary,
  fromJson,
  type JsonValue,
  type MessageInitShape,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import { type Authorization, AuthorizationSchema } from '../gen/authorization_pb.ts';
import { type Address, AddressSchema } from '../gen/workload_pb.ts';

export const ADDRESS_TYPE_URL = 'type.googleapis.com/istio.workload.Address';
export const AUTHORIZATION_TYPE_URL = 'type.googleapis.com/istio.security.Authorization';

export type AddressInit = MessageInitShape<typeof AddressSchema>;
export type AuthorizationInit = MessageInitShape<typeof AuthorizationSchema>;
export type Json = JsonValue;

export function encodeAddress(init: AddressInit): Uint8Array {
  return toBinary(AddressSchema, create(AddressSchema, init));
}

export function encodeAuthorization(init: AuthorizationInit): Uint8Array {
  return toBinary(AuthorizationSchema, create(AuthorizationSchema, init));
}

/** @throws Error when the bytes are no such message */
export function decodeAddressMessage(value: Uint8Array): Address {
  return fromBinary(AddressSchema, value);
}

/** @throws Error when the bytes are no such message */
export function decodeAuthorizationMessage(value: Uint8Array): Authorization {
  return fromBinary(AuthorizationSchema, value);
}

/** Proto JSON: lowerCamel keys, bytes in base64, default values left out. */
export function addressToJson(message: Address): Json {
  return toJson(AddressSchema, message);
}

export function authorizationToJson(message: Authorization): Json {
  return toJson(AuthorizationSchema, message);
}

/** @throws Error when the JSON is no such message; unknown keys are refused */
export function addressFromJson(json: Json): Address {
  return fromJson(AddressSchema, json);
}

/** @throws Error when the JSON is no such message; unknown keys are refused */
export function authorizationFromJson(json: Json): Authorization {
  return fromJson(AuthorizationSchema, json);
}
