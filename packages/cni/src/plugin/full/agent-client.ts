// Asks an agent of Istio's kind on its sockets: `pluginevent.sock` to enrol a pod, `log.sock` to say what happened.
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { errorText } from '@ambit/log';
import { CniError } from '../../errors.ts';
import { CMD_ADD_PATH, type CmdAdd, encodeCmdAdd } from '../cmd-add.ts';
import { encodeLogBatch, LOG_PATH, type PluginLogRecord } from '../log-batch.ts';

/** Upstream's plugin waits as long. */
const ADD_TIMEOUT_MS = 5000;
const LOG_TIMEOUT_MS = 1000;
const MAX_ANSWER_BYTES = 1024 * 1024;

/** Resolves when the pod is enrolled. @throws CniError cni.agent_unreachable, enrol.refused */
export async function sendCmdAdd(runDir: string, event: CmdAdd, signal: AbortSignal): Promise<void> {
  const socketPath = eventSocket(runDir);
  const { status, body } = await post(socketPath, CMD_ADD_PATH, encodeCmdAdd(event), ADD_TIMEOUT_MS, signal);
  if (status === 200) return;
  throw new CniError('enrol.refused', `the node agent answers ${status}: ${body.trim()}`, {
    next: 'the runtime tries again; see the log of the node agent',
  });
}

/** What cannot be told is not told: a pod does not wait for its log. */
export async function sendLog(runDir: string, record: PluginLogRecord): Promise<void> {
  const body = encodeLogBatch([record], new Date());
  try {
    await post(join(runDir, 'log.sock'), LOG_PATH, body, LOG_TIMEOUT_MS, AbortSignal.timeout(LOG_TIMEOUT_MS));
  } catch {
    // The same line is on stderr.
  }
}

/** undefined: somebody listens. */
export function agentProblem(runDir: string): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socketPath = eventSocket(runDir);
  const socket = connect(socketPath);
  socket.setTimeout(LOG_TIMEOUT_MS, () => socket.destroy(new Error('it accepts nobody')));
  socket.once('connect', () => resolve(undefined));
  socket.once('error', error => resolve(`no node agent listens on ${socketPath}: ${error.message}`));
  return promise.finally(() => socket.destroy());
}

function eventSocket(runDir: string): string {
  return join(runDir, 'pluginevent.sock');
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

function post(socketPath: string, path: string, body: string, timeout: number, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const fail = (cause: unknown) => {
    const what = `cannot reach the node agent on ${socketPath}: ${errorText(cause)}`;
    const next = 'start the node agent (DaemonSet istio-cni-node or ambit-agent)';
    reject(new CniError('cni.agent_unreachable', what, { next, cause }));
  };
  const sent = request({ socketPath, method: 'POST', path, headers, timeout, signal }, response => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on('data', (chunk: Buffer) => {
      // More says nothing more; the rest is read and dropped so that the answer ends.
      if (bytes < MAX_ANSWER_BYTES) chunks.push(chunk);
      bytes += chunk.length;
    });
    response.on('error', fail);
    response.on('end', () => {
      const text = Buffer.concat(chunks).subarray(0, MAX_ANSWER_BYTES).toString('utf8');
      resolve({ status: response.statusCode ?? 0, body: text });
    });
  });
  sent.on('timeout', () => sent.destroy(new Error(`no answer in ${timeout / 1000} s`)));
  sent.on('error', fail);
  sent.end(body);
  return promise;
}
