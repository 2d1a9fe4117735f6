// @ambit/wire/resources: the messages that xDS resources carry, their encoding, and their JSON form. A door of its own,
// so that whoever speaks only ZDS loads nothing of this.
export type {
  Address as AddressMessage,
  ApplicationTunnel as ApplicationTunnelMessage,
  GatewayAddress as GatewayAddressMessage,
  NetworkAddress as NetworkAddressMessage,
  Port as PortMessage,
  Service as ServiceMessage,
  Workload as WorkloadMessage,
} from '../gen/workload_pb.ts';
export {
  AppProtocol,
  ApplicationTunnel_Protocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  NetworkMode,
  TunnelProtocol,
  Visibility,
  WorkloadStatus,
  WorkloadType,
} from '../gen/workload_pb.ts';
export type {
  Authorization as AuthorizationMessage,
  Group as GroupMessage,
  Match as MatchMessage,
  Rules as RulesMessage,
  StringMatch as StringMatchMessage,
} from '../gen/authorization_pb.ts';
export { Action, Scope } from '../gen/authorization_pb.ts';
export {
  ADDRESS_TYPE_URL,
  AUTHORIZATION_TYPE_URL,
  addressFromJson,
  addressToJson,
  type AddressInit,
  type AuthorizationInit,
  authorizationFromJson,
  authorizationToJson,
  decodeAddressMessage,
  decodeAuthorizationMessage,
  encodeAddress,
  encodeAuthorization,
  type Json,
} from './encoding.ts';
export { decodeAddress, meshAddress, meshService, meshWorkload } from './decode-address.ts';
export {
  decodeAuthorization,
  type DecodedPolicy,
  type DroppedValue,
  meshPolicy,
} from './decode-authorization.ts';
