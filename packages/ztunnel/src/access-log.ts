// Connection records -> access-log lines with upstream's messages, levels and fields in upstream's order. Bytes are seen
// from the local pod: `bytes_sent` is what it sent. Pure. Which lines are written is decided in access-log-writer.ts.
import { formatSocketAddress, type WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';
import { firstText, nameOfDestination, nameOfSource } from './access-log-names.ts';
import { Bare, type Fields, type FieldValue, type Level } from './log.ts';

export interface AccessLine {
  readonly level: Level;
  readonly message: 'connection opened' | 'connection complete' | 'connection failed';
  readonly fields: Fields;
  /** When it happened, milliseconds since the Unix epoch. */
  readonly timeMs: number;
}

/** The line of a record. */
export function accessLine(record: ConnectionRecord): AccessLine {
  const level = accessLevel(record);
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

/** Of a record's line, without building it. */
export function accessLevel(record: ConnectionRecord): Level {
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
  const sourceName = nameOfSource(source.workload);
  const { workload } = destination;
  const destinationName = nameOfDestination(workload);
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
