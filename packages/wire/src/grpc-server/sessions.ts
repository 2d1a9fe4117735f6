// Keeps the connections of a gRPC server healthy: pings that find dead peers, an age at which a connection is asked to
// go (so that clients spread again over several control planes), windows in which a large state flows.
// As gRPC's keepalive: https://grpc.io/docs/guides/keepalive/; defaults are istiod's.
import type { Http2Server, Http2SecureServer, ServerHttp2Session, ServerOptions } from 'node:http2';

export interface SessionOptions {
  /** Default 30 s. */
  readonly pingIntervalMs?: number;
  /** A connection whose ping is not answered in this time is closed. Default 10 s. */
  readonly pingTimeoutMs?: number;
  /** Age at which a connection gets a GOAWAY, give or take a tenth. Undefined, the default: never. */
  readonly maxAgeMs?: number | undefined;
  /** A connection without a call for so long gets a GOAWAY: it proves nobody, and may be one of thousands. Default 5 min. */
  readonly idleMs?: number;
  /** Time that the streams of such a connection have to end. Default 10 s. */
  readonly graceMs?: number;
  /** 0 <= random() < 1. */
  readonly random?: () => number;
}

export interface SessionKeeper {
  /** Connections open now. */
  readonly count: number;
  /** Sends a GOAWAY to all, and closes after the grace what is still open. Resolves when all are closed. */
  drain(graceMs?: number): Promise<void>;
  /** Closes all at once. */
  close(): void;
}

const STREAM_WINDOW_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024;

/** Options for `http2.createServer` and `createSecureServer` that bound what one peer may hold and ask for. */
export function grpcServerOptions(): ServerOptions {
  return {
    settings: {
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxConcurrentStreams: 128,
      // Bearer tokens are long, and then there are not many of them.
      maxHeaderListSize: 64 * 1024,
    },
    maxSessionInvalidFrames: 100,
  };
}

/** Watches over all connections that `server` accepts from now on. */
export function keepSessions(server: Http2Server | Http2SecureServer, options: SessionOptions = {}): SessionKeeper {
  const { pingIntervalMs = 30_000, pingTimeoutMs = 10_000, maxAgeMs, graceMs = 10_000, random = Math.random } = options;
  const { idleMs = 300_000 } = options;
  const sessions = new Set<ServerHttp2Session>();
  const retire = (session: ServerHttp2Session, ms: number) => {
    if (session.destroyed) return;
    session.close();
    const timer = setTimeout(() => session.destroy(), ms);
    session.once('close', () => clearTimeout(timer));
  };
  const onSession = (session: ServerHttp2Session) => {
    sessions.add(session);
    // A broken connection is ordinary; its streams see it, and so do their handlers.
    session.on('error', () => undefined);
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    const pings = startPings(session, pingIntervalMs, pingTimeoutMs);
    const age =
      maxAgeMs === undefined
        ? undefined
        : setTimeout(() => retire(session, graceMs), maxAgeMs * (0.9 + 0.2 * random())).unref();
    const stopIdle = whenIdle(session, idleMs, () => retire(session, graceMs));
    session.once('close', () => {
      clearInterval(pings);
      clearTimeout(age);
      stopIdle();
      sessions.delete(session);
    });
  };
  server.on('session', onSession);
  return {
    get count() {
      return sessions.size;
    },
    drain: async (ms = graceMs) => {
      const closed = [...sessions].map(
        session => new Promise<void>(resolve => void session.once('close', () => resolve())),
      );
      for (const session of sessions) retire(session, ms);
      await Promise.all(closed);
    },
    close: () => {
      server.off('session', onSession);
      for (const session of sessions) session.destroy();
    },
  };
}

/** Calls back once no stream was open for `ms`. Returns how to stop. */
function whenIdle(session: ServerHttp2Session, ms: number, idle: () => void): () => void {
  let streams = 0;
  let timer = setTimeout(idle, ms).unref();
  session.on('stream', stream => {
    streams++;
    clearTimeout(timer);
    stream.once('close', () => {
      streams--;
      if (streams === 0 && !session.destroyed) timer = setTimeout(idle, ms).unref();
    });
  });
  return () => clearTimeout(timer);
}

function startPings(session: ServerHttp2Session, intervalMs: number, timeoutMs: number): NodeJS.Timeout {
  return setInterval(() => {
    if (session.destroyed) return;
    const dead = setTimeout(() => session.destroy(), timeoutMs).unref();
    // Node refuses a ping only when too many are unanswered; the first of those will find the peer dead.
    session.ping(() => clearTimeout(dead));
  }, intervalMs).unref();
}
