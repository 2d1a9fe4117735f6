// @ambit/wire/grpc: the client side of the two gRPC services, for the node proxy: delta xDS and the certificate call.
export {};
