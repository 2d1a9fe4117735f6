// A request that belongs to a trace -> a span of the proxy in it. The request's own traceparent decides: without one, or when
// it says that the trace is not recorded, there is no span. The proxy changes no request, so both ends are children of the
// application's span: the source's proxy as client, the destination's as server. Attributes by the semantic conventions
// for HTTP and RPC (https://opentelemetry.io/docs/specs/semconv), who talks to whom in our own. Pure.
import { parseTraceparent } from '@ambit/mesh';
import type { RequestRecord } from '@ambit/proxy';
import { nameOfDestination, nameOfSource, serverFault } from '../access-log-names.ts';
import type { Attribute, Attributes, SpanItem } from './otlp-messages.ts';

const SAMPLED = 1;
const GRPC_OK = 0;

/** @param spanId 16 hexadecimal digits, not all zero. undefined: the request has no span */
export function spanOf(told: RequestRecord, spanId: string): SpanItem | undefined {
  const { connection, request, startedAtMs } = told;
  const trace = request.traceparent === undefined ? undefined : parseTraceparent(request.traceparent);
  if (trace === undefined || (trace.flags & SAMPLED) === 0) return undefined;
  if (request.protocol !== 'http' && request.protocol !== 'grpc') return undefined;
  const isClient = connection.direction === 'outbound';
  const rpc = request.protocol === 'grpc' ? rpcMethod(request.path) : undefined;
  const isError = isClient ? clientError(told) : serverFault(request);
  return {
    name: rpc === undefined ? request.method : `${rpc.service}/${rpc.method}`,
    kind: isClient ? 'client' : 'server',
    traceId: trace.traceId,
    spanId,
    parentSpanId: trace.parentId,
    traceFlags: trace.flags,
    startMs: startedAtMs,
    endMs: startedAtMs + request.durationMs,
    isError,
    attributes: defined({
      ...(request.protocol === 'grpc' ? rpcAttributes(told, rpc) : httpAttributes(told)),
      ...placeAttributes(told, isClient),
      ...peerAttributes(told),
      'error.type': isError ? errorType(told) : undefined,
    }),
  };
}

type Loose = Readonly<Record<string, Attribute | undefined>>;

function httpAttributes({ request }: RequestRecord): Loose {
  return {
    'http.request.method': request.method,
    'http.response.status_code': request.status === 0 ? undefined : request.status,
    'http.request.size': request.requestBytes,
    'http.response.size': request.responseBytes,
    'url.path': request.path,
    'url.scheme': 'http',
  };
}

function rpcAttributes({ request }: RequestRecord, rpc: Rpc | undefined): Loose {
  return {
    'rpc.system': 'grpc',
    'rpc.service': rpc?.service,
    'rpc.method': rpc?.method,
    'rpc.grpc.status_code': request.grpcStatus,
  };
}

/** Where the request was sent to, as the side that reports it knows it. */
function placeAttributes({ connection, request }: RequestRecord, isClient: boolean): Loose {
  const { source, destination, originalDestination, service } = connection;
  const target = originalDestination ?? destination.address;
  const authority = /^(.+?)(?::(\d{1,5}))?$/.exec(request.authority);
  return {
    'server.address': service?.hostname || authority?.[1] || target.ip,
    'server.port': isClient ? target.port : authority?.[2] === undefined ? undefined : Number(authority[2]),
    'client.address': isClient ? undefined : source.address.ip,
    'network.transport': 'tcp',
    'network.peer.address': isClient ? destination.address.ip : source.address.ip,
    'network.peer.port': isClient ? destination.address.port : source.address.port,
  };
}

function peerAttributes({ connection }: RequestRecord): Loose {
  const { source, destination } = connection;
  return {
    'ambit.source.workload': nameOfSource(source.workload),
    'ambit.source.namespace': source.workload?.namespace || undefined,
    'ambit.source.principal': source.identity,
    'ambit.destination.workload': nameOfDestination(destination.workload),
    'ambit.destination.namespace': destination.workload?.namespace || undefined,
    'ambit.destination.principal': destination.identity,
    'ambit.connection.protocol': connection.protocol,
  };
}

/** Of a client span the conventions call every answer an error that is not a success. */
function clientError({ request }: RequestRecord): boolean {
  if (request.flags !== undefined) return true;
  return request.protocol === 'grpc' ? request.grpcStatus !== GRPC_OK : request.status === 0 || request.status >= 400;
}

function errorType({ request }: RequestRecord): string {
  if (request.flags !== undefined) return request.flags === 'UC' ? 'server_closed' : 'client_closed';
  if (request.protocol === 'grpc') return request.grpcStatus === undefined ? 'no_status' : String(request.grpcStatus);
  return String(request.status);
}

interface Rpc {
  readonly service: string;
  readonly method: string;
}

function rpcMethod(path: string): Rpc | undefined {
  const [, service, method] = /^\/([^/]+)\/([^/]+)$/.exec(path) ?? [];
  return service === undefined || method === undefined ? undefined : { service, method };
}

function defined(attributes: Loose): Attributes {
  return Object.fromEntries(
    Object.entries(attributes).filter(
      (entry): entry is [string, Attribute] => entry[1] !== undefined && entry[1] !== '',
    ),
  );
}
