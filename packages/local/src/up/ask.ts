// Questions among the parts: a readiness page, and JSON over a Unix socket. Bounded in time and size.
import { type ClientRequest, get, type IncomingMessage, request } from 'node:http';
import { LocalError } from '../errors.ts';

const TIMEOUT_MS = 5_000;
const MAX_BYTES = 16 * 1024 * 1024;

/** @returns undefined when the page answers 200, otherwise its words */
export async function askText(url: string): Promise<string | undefined> {
  const { status, text } = await answerOf(get(url, { agent: false, timeout: TIMEOUT_MS }));
  return status === 200 ? undefined : text.trim().slice(0, 300);
}

/**
 * @param timeoutMs of silence; default 5 s
 * @throws LocalError: the answer's own when it says no, local.not_up when nobody listens, local.rights when we may not ask
 */
export async function askJson(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
  timeoutMs = TIMEOUT_MS,
): Promise<unknown> {
  const payload = body === undefined ? '' : JSON.stringify(body);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) };
  const sent = request({ socketPath, method, path, headers, agent: false, timeout: timeoutMs });
  sent.end(payload);
  let answer: Answer;
  try {
    answer = await answerOf(sent);
  } catch (cause) {
    throw unreachable(socketPath, cause);
  }
  const json = JSON.parse(answer.text) as unknown;
  if (answer.status === 200) return json;
  const { code, message, where, next } = json as { readonly [key: string]: string | undefined };
  // The other side is our own and uses the same codes.
  throw new LocalError((code ?? 'local.part_failed') as LocalError['code'], message ?? `status ${answer.status}`, {
    where,
    next,
  });
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function unreachable(socketPath: string, cause: unknown): LocalError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  if (code === 'EACCES' || code === 'EPERM') {
    return new LocalError('local.rights', 'the mesh of this machine belongs to another user', {
      where: socketPath,
      next: 'use sudo',
      cause,
    });
  }
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new LocalError('local.not_up', 'the mesh of this machine is not up', {
      where: socketPath,
      next: 'sudo ambit up',
      cause,
    });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new LocalError('local.part_failed', `no answer: ${reason}`, { where: socketPath, cause });
}

async function answerOf(sent: ClientRequest): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  sent.once('response', (response: IncomingMessage) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_BYTES) sent.destroy(new Error('the answer is too large'));
      else chunks.push(chunk);
    });
    response.once('end', () =>
      resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
    );
    response.once('error', reject);
  });
  sent.once('timeout', () => sent.destroy(new Error('no answer in time')));
  sent.once('error', reject);
  return promise;
}
