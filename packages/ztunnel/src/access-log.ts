// Connection records -> access-log lines with upstream's messages, levels and fields in upstream's order. Bytes are seen
// from the local pod: `bytes_sent` is what it sent. Pure apart from the logger; a record of the wrong shape cannot occur.
import { formatSocketAddress, type WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';
import { Bare, type Fields, type FieldValue, type Level, type Logger } from './log.ts';

export interface AccessLine {
  readonly level: Level;
  readonly message: 'connection opened' | 'connection complete' | 'connection failed';
  readonly fields: Fields;
  /** When it happened, milliseconds since the Unix epoch. */
  readonly timeMs: number;
}

/** Writes one line for a record, if its level is wanted. */
export function logAccess(log: Logger, record: ConnectionRecord): void {
  if (record.event === 'progress') return;
  // Levels are checked before any text is built: opens are at debug and normally unwanted.
  if (!log.isEnabled(levelOf(record))) return;
  const line = accessLine(record);
  log.log(line.level, line.message, line.fields, line.timeMs);
}

/** The line of a record. */
export function accessLine(record: ConnectionRecord): AccessLine {
  const level = levelOf(record);
  const timeMs = record.startedAtMs + record.durationMs;
  switch (record.event) {
    case 'open':
    case 'progress':
      return { level, message: 'connection opened', fields: peerFields(record), timeMs };
    case 'close':
      return {
        level,
        message: 'connection complete',
        fields: [...peerFields(record), ...resultFields(record)],
        timeMs,
      };
    case 'refused':
      return { level, message: 'connection failed', fields: refusalFields(record), timeMs };
  }
}

function levelOf(record: ConnectionRecord): Level {
  switch (record.event) {
    case 'open':
    case 'progress':
      return 'debug';
    case 'close':
      return errorOf(record) === undefined ? 'info' : 'error';
    case 'refused':
      return 'warn';
  }
}

function peerFields({ source, destination, service, ...record }: ConnectionRecord): Fields {
  // A workload known by baggage alone has no pod name; upstream then shows the canonical service of a source and the
  // workload name of a destination.
  const sourceName = firstText(source.workload?.name, source.workload?.canonicalName, source.workload?.workloadName);
  const { workload } = destination;
  const destinationName = firstText(workload?.name, workload?.workloadName, workload?.canonicalName);
  return [
    ['src.addr', new Bare(formatSocketAddress(source.address))],
    ...sideFields('src', sourceName, source.workload, source.identity),
    ['dst.addr', new Bare(formatSocketAddress(destination.address))],
    ['dst.hbone_addr', record.hboneAuthority === undefined ? undefined : new Bare(record.hboneAuthority)],
    ['dst.service', firstText(service?.hostname)],
    ...sideFields('dst', destinationName, workload, destination.identity),
    ['direction', record.direction],
  ];
}

type Field = readonly [key: string, value: FieldValue | undefined];

function sideFields(
  side: 'src' | 'dst',
  name: string | undefined,
  workload: WorkloadSummary | undefined,
  identity: string | undefined,
): readonly Field[] {
  return [
    [`${side}.workload`, name],
    [`${side}.namespace`, firstText(workload?.namespace)],
    [`${side}.identity`, identity],
    [`${side}.cluster`, firstText(workload?.cluster)],
  ];
}

function resultFields(record: ConnectionRecord): Fields {
  const isOutbound = record.direction === 'outbound';
  return [
    ['bytes_sent', isOutbound ? record.bytesToServer : record.bytesToClient],
    ['bytes_recv', isOutbound ? record.bytesToClient : record.bytesToServer],
    ['duration', `${Math.floor(record.durationMs)}ms`],
    ['error', errorOf(record)],
  ];
}

function refusalFields(record: ConnectionRecord): Fields {
  return [
    ['src.addr', new Bare(formatSocketAddress(record.source.address))],
    ['dst.addr', new Bare(formatSocketAddress(record.destination.address))],
    ['direction', record.direction],
    ['error', errorOf(record) ?? 'refused'],
  ];
}

function errorOf(record: ConnectionRecord): string | undefined {
  return record.error ?? record.reason;
}

function firstText(...texts: readonly (string | undefined)[]): string | undefined {
  return texts.find(text => text !== undefined && text !== '');
}
