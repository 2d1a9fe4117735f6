// @ambit/wire/grpc: the client side of the two gRPC services, for the node proxy: delta xDS and the certificate call.
export { CaClient, type CertificateQuestion, requestCertificate } from './ca-client.ts';
export { CallError, type CallErrorCode, type GrpcStatus } from './call-error.ts';
export type { DeltaNode, DeltaResource, DeltaType, DeltaUpdate, RejectedResource } from './delta-client.ts';
export {
  type DeltaEvent,
  DeltaRunner,
  type DeltaRunnerDeps,
  type DeltaRunnerOptions,
  type DeltaStats,
  type DeltaStatus,
  type Termination,
} from './delta-runner.ts';
export type { DemandResult } from './demand-waiters.ts';
export type { GrpcCall } from './grpc-call.ts';
export type { GrpcTarget } from './grpc-target.ts';
export { type CallOptions, GrpcSession, openGrpcSession, type UnaryOptions } from './transport.ts';
