// Questions to a part of Ambit on this machine over its admin socket: one JSON answer to one request, bounded in time and
// size, since whoever listens there may be anything.
import { request } from 'node:http';

export interface SocketAnswer {
  /** HTTP status. */
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
}

export interface SocketQuestion {
  readonly method: string;
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: object | undefined;
  /** Default 15 s without a byte. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;

/** @throws Error when nobody listens, the answer is late, too large or no JSON */
export function askSocket(socketPath: string, question: SocketQuestion): Promise<SocketAnswer> {
  const { method, path, body, timeoutMs = TIMEOUT_MS } = question;
  const { promise, resolve, reject } = Promise.withResolvers<SocketAnswer>();
  const text = body === undefined ? '' : JSON.stringify(body);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  const sent = request({ socketPath, method, path, headers, timeout: timeoutMs }, response => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_ANSWER_BYTES) sent.destroy(new Error('the answer is too large'));
      else chunks.push(chunk);
    });
    response.on('error', reject);
    response.on('end', () => {
      try {
        const json: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
        resolve({ status: response.statusCode ?? 0, json: { ...(json as object) } });
      } catch {
        reject(new Error(`status ${response.statusCode}, and no JSON`));
      }
    });
  });
  sent.on('timeout', () => sent.destroy(new Error(`no answer in ${timeoutMs / 1000} s`)));
  sent.on('error', reject);
  sent.end(text);
  return promise;
}
