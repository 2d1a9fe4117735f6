// @ambit/wire/grpc-server: the server side of the two gRPC services, for the control plane.
export type { CallContext, CallCredentials } from './call-context.ts';
export {
  type CertificateHandler,
  createGrpcHandler,
  type DeltaCall,
  type DeltaHandler,
  type GrpcListener,
  type GrpcServices,
} from './handler.ts';
export {
  type CertificateRequest,
  type DeltaRequest,
  type DeltaResponseInit,
  encodeResource,
  encodeResourceEntries,
  type ResourceInit,
} from './messages.ts';
export { grpcServerOptions, keepSessions, type SessionKeeper, type SessionOptions } from './sessions.ts';
export { type GrpcCode, GrpcError } from './status.ts';
