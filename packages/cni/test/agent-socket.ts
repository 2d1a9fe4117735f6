// How tests speak to the sockets of an agent: one HTTP request, or one frame of the plugin's executable.
import { request } from 'node:http';
import { connect } from 'node:net';

export interface CniOutcome {
  /** -1: there was no answer. */
  readonly status: number;
  readonly stdout: string;
}

export async function askHttp(
  socketPath: string,
  method: string,
  path: string,
  body = '',
): Promise<{ status: number; text: string; json: Readonly<Record<string, unknown>> }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const sent = request({ socketPath, method, path, agent: false }, response => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
  });
  sent.on('error', reject);
  sent.end(body);
  const answer = await promise;
  const isJson = answer.text.startsWith('{');
  return { ...answer, json: isJson ? (JSON.parse(answer.text) as Readonly<Record<string, unknown>>) : {} };
}

export async function sendFrame(path: string, frame: Uint8Array): Promise<CniOutcome> {
  const { promise, resolve, reject } = Promise.withResolvers<CniOutcome>();
  const socket = connect({ path, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', reject);
  socket.on('close', () => {
    const answer = Buffer.concat(chunks);
    resolve({ status: answer[0] ?? -1, stdout: answer.toString('utf8', 1, Math.max(1, answer.length - 1)) });
  });
  socket.on('end', () => socket.end());
  socket.end(frame);
  return promise;
}
