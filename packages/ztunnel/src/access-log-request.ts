// Requests that were read from a connection's plaintext -> lines of the scope `access.l7`, which is off unless it is named.
// Who talks to whom is said in the words of the connection's line, the request in Envoy's. Pure. The path comes without its
// query, which is where secrets are; bodies and headers are never there.
import { formatSocketAddress, parseTraceparent } from '@ambit/mesh';
import type { L7Request, RequestRecord } from '@ambit/proxy';
import { nameOfDestination, nameOfSource, serverFault } from './access-log-names.ts';
import { Bare, type Fields, type Level } from './log.ts';

export interface RequestLine {
  readonly level: Level;
  readonly message: 'request complete';
  readonly fields: Fields;
  /** When it ended, milliseconds since the Unix epoch. */
  readonly timeMs: number;
  /** From the request's own traceparent. */
  readonly traceId: string | undefined;
}

/** `error` for what the server or the mesh did not bring to an end; an answer the client deserved is `info`. */
export function requestLevel(request: L7Request): Level {
  return serverFault(request) ? 'error' : 'info';
}

export function requestLine({ connection, request, startedAtMs }: RequestRecord): RequestLine {
  const { source, destination, service, direction } = connection;
  const isOutbound = direction === 'outbound';
  const isHttp = request.protocol === 'http' || request.protocol === 'grpc';
  const trace = request.traceparent === undefined ? undefined : parseTraceparent(request.traceparent);
  return {
    level: requestLevel(request),
    message: 'request complete',
    timeMs: startedAtMs + request.durationMs,
    traceId: trace?.traceId,
    fields: [
      ['src.addr', new Bare(formatSocketAddress(source.address))],
      ['src.workload', nameOfSource(source.workload)],
      ['src.namespace', unlessBlank(source.workload?.namespace)],
      ['src.identity', source.identity],
      ['dst.addr', new Bare(formatSocketAddress(destination.address))],
      ['dst.service', unlessBlank(service?.hostname)],
      ['dst.workload', nameOfDestination(destination.workload)],
      ['dst.namespace', unlessBlank(destination.workload?.namespace)],
      ['dst.identity', destination.identity],
      ['direction', direction],
      ['protocol', request.protocol],
      ['request_method', unlessBlank(request.method)],
      ['request_path', unlessBlank(request.path)],
      ['authority', unlessBlank(request.authority)],
      // As Envoy: 0 when there was none.
      ['response_code', isHttp ? request.status : undefined],
      ['grpc_status', request.grpcStatus],
      ['response_flags', request.flags],
      ['bytes_sent', isOutbound ? request.requestBytes : request.responseBytes],
      ['bytes_recv', isOutbound ? request.responseBytes : request.requestBytes],
      ['duration', `${Math.floor(request.durationMs)}ms`],
      ['trace_id', trace?.traceId],
      ['error', request.error],
    ],
  };
}

function unlessBlank(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
