// Asks a pod's canary (packages/mesh/src/canary.ts): connects from inside the pod's namespace as its applications do, and
// reads one line. The socket is made in the namespace and awaited outside. What comes back is the word of whoever took the
// connection: it proves that nothing on the node leads traffic past the mesh, not that root in the pod is honest.
import { Socket } from 'node:net';
import { CANARY_ADDRESSES, CANARY_PORT, type CanaryAnswer } from '@ambit/mesh';
import { Errno, errnoName, type NetNs, openTcp, startConnect } from '@ambit/native';
import { errorText } from '@ambit/log';
import { visit } from '../redirect/visit.ts';

export type CanaryFamily = 'ipv4' | 'ipv6';

export type CanaryResult =
  | { readonly kind: 'answered'; readonly answer: CanaryAnswer; readonly ms: number }
  /** The near end says, by a reason code, why there is no way to the far one. */
  | { readonly kind: 'denied'; readonly reason: string }
  /** No proxy took the connection: what the pod says goes past the mesh, as far as it goes. */
  | { readonly kind: 'bypassed'; readonly why: string }
  /** Somebody took the connection and said nothing that makes sense. */
  | { readonly kind: 'broken'; readonly why: string };

/** A line is some 400 bytes. */
const MAX_BYTES = 4096;

/**
 * Never waits longer than `timeoutMs`. @throws CniError enrol.netns_gone, SysError when this process has no socket to spare
 */
export async function askCanary(
  netns: NetNs,
  family: CanaryFamily,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<CanaryResult> {
  const begun = performance.now();
  const { fd, started } = visit(netns, () => {
    const opened = openTcp(family);
    return { fd: opened, started: startConnect(opened, { ip: CANARY_ADDRESSES[family], port: CANARY_PORT }) };
  });
  if (started < 0 && started !== -Errno.EINPROGRESS) {
    fd.close();
    return { kind: 'bypassed', why: `connecting to it fails with ${errnoName(-started)}` };
  }
  const socket = new Socket({ fd: fd.release() });
  const { promise, resolve } = Promise.withResolvers<CanaryResult>();
  let text = '';
  // While a connection is being made it has no other end.
  const isConnected = (): boolean => socket.remoteAddress !== undefined;
  const silence = (): CanaryResult =>
    isConnected()
      ? { kind: 'broken', why: `it was taken, and not answered within ${timeoutMs / 1000} s` }
      : { kind: 'bypassed', why: `nobody took the connection within ${timeoutMs / 1000} s` };
  const timer = setTimeout(() => resolve(silence()), timeoutMs);
  const onAbort = (): void => resolve({ kind: 'broken', why: 'the audit ends' });
  signal.addEventListener('abort', onAbort, { once: true });
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
    if (text.length > MAX_BYTES) resolve({ kind: 'broken', why: `it said more than ${MAX_BYTES} bytes` });
  });
  socket.once('end', () => resolve(readCanary(text, performance.now() - begun)));
  socket.once('error', (error: NodeJS.ErrnoException) => {
    const isTaken = error.code === 'ECONNRESET' || error.code === 'EPIPE';
    resolve({ kind: isTaken ? 'broken' : 'bypassed', why: `the connection failed: ${error.code ?? errorText(error)}` });
  });
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    socket.destroy();
  }
}

/** Pure. `ms`: how long it took. */
export function readCanary(text: string, ms: number): CanaryResult {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { kind: 'broken', why: text === '' ? 'it was taken and closed without a word' : 'it said something else' };
  }
  const fields: Readonly<Record<string, unknown>> = typeof value === 'object' && value !== null ? { ...value } : {};
  if (fields['canary'] !== 1) return { kind: 'broken', why: 'it said something else' };
  if (typeof fields['reason'] === 'string') return { kind: 'denied', reason: fields['reason'] };
  if (!isAnswer(fields)) return { kind: 'broken', why: 'its answer is not whole' };
  return { kind: 'answered', answer: fields, ms };
}

const TEXTS = ['peer', 'local', 'group', 'cipher', 'notBefore', 'notAfter', 'workload'] as const;

function isAnswer(
  fields: Readonly<Record<string, unknown>>,
): fields is Readonly<Record<string, unknown>> & CanaryAnswer {
  const isWhole = TEXTS.every(name => typeof fields[name] === 'string');
  return isWhole && ['notBefore', 'notAfter'].every(name => !Number.isNaN(Date.parse(String(fields[name]))));
}
