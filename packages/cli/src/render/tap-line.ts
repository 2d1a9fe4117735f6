// One line for one event of `ambit tap`: time, from, to, what happened, then details, the least important of which give way.
import { isDenied } from '@ambit/insight';
import type { ConnectionRecord, L7Request, RecordPeer } from '@ambit/proxy';
import { cell } from './columns.ts';
import { cut } from './fitted-table.ts';
import type { Style } from './style.ts';
import { bytes, duration } from './units.ts';

type Ends = Pick<ConnectionRecord, 'direction' | 'source' | 'destination' | 'service' | 'tls'>;

/** A line of `/records`. */
export type TapEvent =
  | ({ readonly kind: 'connection' } & ConnectionRecord)
  | { readonly kind: 'request'; readonly startedAtMs: number; readonly connection: Ends; readonly request: L7Request }
  | { readonly kind: 'dropped'; readonly count: number };

/** In order of importance. */
type Details = readonly (string | undefined)[];

const TIME_WIDTH = 8;

export function tapLine(event: TapEvent, style: Style, width: number): string {
  if (event.kind === 'dropped') return style.warn(`${event.count} events were dropped: more than could be read`);
  if (event.kind === 'request') return requestLine(event, style, width);
  const { event: what, reason, policy, durationMs, bytesToServer, bytesToClient, tls, startedAtMs, protocol } = event;
  const ended = what === 'close' || what === 'refused';
  const verdict =
    reason === undefined
      ? { open: 'open', progress: 'lives', close: 'closed', refused: 'refused' }[what]
      : isDenied(event)
        ? 'denied'
        : 'failed';
  const paint = reason === undefined ? undefined : style.bad;
  const hasBytes = what !== 'open' && what !== 'refused';
  return line(startedAtMs + durationMs, event, verdict, paint, style, width, [
    reason === undefined ? undefined : `[${reason}]`,
    verdict === 'denied' ? policy : undefined,
    hasBytes ? `${bytes(bytesToServer)} out ${bytes(bytesToClient)} in` : undefined,
    ended ? duration(durationMs) : undefined,
    securityOf(tls, protocol === 'TCP' && hasBytes),
    event.l7,
  ]);
}

function requestLine(event: Extract<TapEvent, { kind: 'request' }>, style: Style, width: number): string {
  const { connection, request, startedAtMs } = event;
  const { protocol, status, grpcStatus, error, flags, method, path, durationMs, responseBytes, requestBytes } = request;
  const failed = error !== undefined || flags !== undefined || status >= 500 || (grpcStatus ?? 0) !== 0;
  const answer =
    protocol === 'grpc'
      ? `grpc ${grpcStatus ?? '–'}`
      : protocol === 'http'
        ? status === 0
          ? '–'
          : String(status)
        : (error ?? 'ok');
  const asked = `${method} ${path}`.trim();
  return line(startedAtMs + durationMs, connection, answer, failed ? style.bad : undefined, style, width, [
    asked === '' ? protocol : asked,
    duration(durationMs),
    flags,
    `${bytes(requestBytes)} out ${bytes(responseBytes)} in`,
    securityOf(connection.tls, true),
  ]);
}

function line(
  atMs: number,
  ends: Ends,
  verdict: string,
  paint: ((text: string) => string) | undefined,
  style: Style,
  width: number,
  details: Details,
): string {
  const time = new Date(atMs).toISOString().slice(11, 11 + TIME_WIDTH);
  const share = Math.max(10, Math.min(26, Math.floor((width - 40) / 2)));
  // Both ends tell of a connection: who tells is part of the arrow.
  const arrow = ends.direction === 'outbound' ? '->' : '=>';
  const from = cut(nameOf(ends.source), share).padEnd(share);
  const to = cut(nameOf(ends.destination), share).padEnd(share);
  const head = `${time} ${from} ${arrow} ${to} ${cell(verdict).padEnd(6)}`;
  let room = width - head.length - 1;
  const shown: string[] = [];
  for (const detail of details) {
    if (detail === undefined || detail === '') continue;
    const isFirst = shown.length === 0;
    const text = isFirst ? cut(cell(detail), Math.max(8, room)) : cell(detail);
    if (!isFirst && text.length + 1 > room) continue;
    shown.push(text);
    room -= text.length + 1;
  }
  const painted = paint === undefined ? head : `${head.slice(0, -6)}${paint(cell(verdict).padEnd(6))}`;
  return `${painted} ${style.dim(shown.join(' '))}`.trimEnd();
}

function nameOf({ workload, address }: RecordPeer): string {
  if (workload === undefined) return address.ip;
  return cell(`${workload.namespace}/${workload.workloadName || workload.name}`);
}

function securityOf(tls: ConnectionRecord['tls'], isKnown: boolean): string | undefined {
  if (tls !== undefined) return 'mTLS';
  return isKnown ? 'plaintext' : undefined;
}
