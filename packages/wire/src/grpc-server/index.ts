// @ambit/wire/grpc-server: the server side of the two gRPC services, for the control plane.
export {};
