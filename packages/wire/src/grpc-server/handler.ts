// The two gRPC services as one listener for HTTP/2 servers that the caller owns. Every call ends with a status; what a
// handler throws beyond GrpcError is reported and becomes `internal`, without its text.
// Written on node:http2 and not over connect-node's adapter, which encodes each message anew for each peer (we share the
// bytes), keeps headers back until the first message, tells nothing of what a peer has taken, and throws into the
// server's event loop when a peer leaves out `:authority`.
import { constants, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { Call } from './call.ts';
import { type CallContext, readCredentials, readTimeoutMs } from './call-context.ts';
import {
  type CertificateRequest,
  decodeCertificateRequest,
  decodeDeltaRequest,
  type DeltaRequest,
  type DeltaResponseInit,
  encodeCertificateResponse,
  encodeDeltaResponse,
} from './messages.ts';
import { GrpcError } from './status.ts';

export const DELTA_PATH = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
export const CREATE_CERTIFICATE_PATH = '/istio.v1.auth.IstioCertificateService/CreateCertificate';

/** `initial_resource_versions` of 100 000 names is about 10 MiB. */
const MAX_DELTA_REQUEST_BYTES = 64 * 1024 * 1024;
const MAX_CERTIFICATE_REQUEST_BYTES = 64 * 1024;
const CERTIFICATE_STUCK_MS = 10_000;
/** For a whole certificate call: an API server's word on the caller (10 s) and a slow peer fit into it. */
const CERTIFICATE_CALL_MS = 30_000;

/** One delta stream, from the server's side. */
export interface DeltaCall {
  readonly context: CallContext;
  /** The peer's requests until it half-closes; it is held back while one is being handled. Iterate once. */
  readonly requests: AsyncIterable<DeltaRequest>;
  /**
   * Sends one response and resolves with its bytes when the peer has taken them all; one at a time.
   * @throws GrpcError deadline_exceeded when the peer takes nothing for `stuckMs`: throw it on, and the stream is reset
   */
  send(response: DeltaResponseInit, stuckMs: number): Promise<number>;
}

/** Resolving ends the stream with OK, a GrpcError with its status. */
export type DeltaHandler = (call: DeltaCall) => Promise<void>;

export type CertificateHandler = (
  request: CertificateRequest,
  context: CallContext,
) => Promise<{ readonly certChain: readonly string[] }>;

export interface GrpcServices {
  readonly deltaResources?: DeltaHandler;
  readonly createCertificate?: CertificateHandler;
  /** Longest that a certificate call may take, whatever the peer's own deadline: it needs no proof to be begun. Default 30 s. */
  readonly certificateCallMs?: number;
  /** Told what a handler threw that is no GrpcError: a bug of ours. */
  readonly onBug?: (error: unknown, path: string) => void;
}

export type GrpcListener = (request: Http2ServerRequest, response: Http2ServerResponse) => void;

/** For `server.on('request', ...)` of a plaintext or TLS HTTP/2 server; see `grpcServerOptions` and `keepSessions`. */
export function createGrpcHandler(services: GrpcServices): GrpcListener {
  return (request, response) => {
    if (request.method !== 'POST' || !(request.headers['content-type'] ?? '').startsWith('application/grpc')) {
      refuse(request, response);
      return;
    }
    const path = request.url;
    const timeoutMs = readTimeoutMs(request.headers['grpc-timeout']);
    const open = (maxRequestBytes: number, maxMs = Infinity) =>
      new Call(request, response, { maxRequestBytes, timeoutMs: shorter(timeoutMs, maxMs) });
    const { deltaResources, createCertificate, certificateCallMs = CERTIFICATE_CALL_MS } = services;
    if (path === DELTA_PATH && deltaResources !== undefined) {
      const context = { credentials: readCredentials(request) };
      void conclude(open(MAX_DELTA_REQUEST_BYTES), path, services, call => serveDelta(call, context, deltaResources));
    } else if (path === CREATE_CERTIFICATE_PATH && createCertificate !== undefined) {
      const context = { credentials: readCredentials(request) };
      void conclude(open(MAX_CERTIFICATE_REQUEST_BYTES, certificateCallMs), path, services, call =>
        serveCertificate(call, context, createCertificate),
      );
    } else {
      open(0).finish(new GrpcError('unimplemented', 'no such method'));
    }
  };
}

/** Not gRPC. The stream is closed too: a peer that never ends its request would keep it. */
function refuse(request: Http2ServerRequest, response: Http2ServerResponse): void {
  const { stream } = response;
  stream.on('error', () => undefined);
  response.writeHead(request.method === 'POST' ? 415 : 405);
  response.end(() => stream.close(constants.NGHTTP2_NO_ERROR));
}

function shorter(timeoutMs: number | undefined, maxMs: number): number | undefined {
  return maxMs === Infinity ? timeoutMs : Math.min(timeoutMs ?? Infinity, maxMs);
}

async function conclude(
  call: Call,
  path: string,
  services: GrpcServices,
  serve: (call: Call) => Promise<void>,
): Promise<void> {
  try {
    await serve(call);
    call.finish(undefined);
  } catch (error) {
    if (!(error instanceof GrpcError)) {
      services.onBug?.(error, path);
      call.finish(new GrpcError('internal', 'internal error'));
    } else if (error instanceof StuckError) call.reset(error);
    else call.finish(error);
  }
}

class StuckError extends GrpcError {}

async function serveDelta(call: Call, context: Omit<CallContext, 'signal'>, handler: DeltaHandler): Promise<void> {
  await untilAborted(
    call.signal,
    handler({
      context: { ...context, signal: call.signal },
      requests: decoded(call),
      send: async (response, stuckMs) => {
        try {
          return await call.send(encodeDeltaResponse(response), stuckMs);
        } catch (error) {
          if (error instanceof GrpcError && error.code === 'deadline_exceeded' && !call.signal.aborted) {
            throw new StuckError(error.code, error.message);
          }
          throw error;
        }
      },
    }),
  );
}

async function* decoded(call: Call): AsyncGenerator<DeltaRequest, void, undefined> {
  for await (const message of call.messages()) yield decodeDeltaRequest(message);
}

async function serveCertificate(
  call: Call,
  context: Omit<CallContext, 'signal'>,
  handler: CertificateHandler,
): Promise<void> {
  const answer = async () => {
    let request: CertificateRequest | undefined;
    for await (const message of call.messages()) {
      if (request !== undefined) throw new GrpcError('unimplemented', 'one request was expected, two came');
      request = decodeCertificateRequest(message);
    }
    if (request === undefined) throw new GrpcError('unimplemented', 'the call ended without a request');
    const { certChain } = await handler(request, { ...context, signal: call.signal });
    await call.send([encodeCertificateResponse(certChain)], CERTIFICATE_STUCK_MS);
  };
  await untilAborted(call.signal, answer());
}

/** A deadline or a cancel ends the call at once, whatever the handler is waiting for; it sees the same signal. */
function untilAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as GrpcError);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
