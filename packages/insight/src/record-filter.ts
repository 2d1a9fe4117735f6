// Which records somebody wants to see: parsed from the words of a query, the same for `ambit tap` and the admin port.
// Pure. A word that means nothing is an error: a filter that silently lets through everything would mislead.
import type { ConnectionRecord, RecordPeer, RequestRecord } from '@ambit/proxy';

export interface RecordFilter {
  /** `namespace/workload`, `namespace/pod`, a bare workload name, or an address. */
  readonly from?: string | undefined;
  /** The same for the destination, or the host name of a service or its first label. */
  readonly to?: string | undefined;
  /** Of either end. */
  readonly namespace?: string | undefined;
  /** Only what was refused or ended by a policy. */
  readonly isDeniedOnly: boolean;
  /** Only what failed, denials among it; of requests those with an error. */
  readonly isFailedOnly: boolean;
  /** Whether single requests are wanted too. */
  readonly requests: boolean;
}

export type FilterReading =
  | { readonly kind: 'filter'; readonly filter: RecordFilter }
  | { readonly kind: 'invalid'; readonly message: string };

const FLAGS: ReadonlySet<string> = new Set(['denied', 'failed', 'l7']);
const TEXTS: ReadonlySet<string> = new Set(['from', 'to', 'namespace']);
const MAX_TEXT = 256;

/** Reads `from`, `to`, `namespace`, `denied`, `failed` and `l7`; a flag is on when it is there and not `false`. */
export function readRecordFilter(query: URLSearchParams): FilterReading {
  for (const [name, value] of query) {
    if (!FLAGS.has(name) && !TEXTS.has(name)) {
      const known = [...TEXTS, ...FLAGS].join(', ');
      return { kind: 'invalid', message: `there is no filter "${name.slice(0, MAX_TEXT)}"; known: ${known}` };
    }
    if (value.length > MAX_TEXT) return { kind: 'invalid', message: `${name} is longer than ${MAX_TEXT} characters` };
    if (TEXTS.has(name) && value === '') return { kind: 'invalid', message: `${name} is empty` };
  }
  const isOn = (name: string): boolean => query.has(name) && query.get(name) !== 'false';
  return {
    kind: 'filter',
    filter: {
      from: query.get('from') ?? undefined,
      to: query.get('to') ?? undefined,
      namespace: query.get('namespace') ?? undefined,
      isDeniedOnly: isOn('denied'),
      isFailedOnly: isOn('failed'),
      requests: isOn('l7'),
    },
  };
}

/** Whether a connection's record is wanted. */
export function matchesRecord(filter: RecordFilter, record: ConnectionRecord): boolean {
  if (filter.isDeniedOnly && !isDenied(record)) return false;
  if (filter.isFailedOnly && record.reason === undefined) return false;
  return matchesEnds(filter, record);
}

/** Whether a request is wanted. */
export function matchesRequest(filter: RecordFilter, { connection, request }: RequestRecord): boolean {
  if (!filter.requests || filter.isDeniedOnly) return false;
  const hasFailed =
    request.flags !== undefined ||
    request.error !== undefined ||
    request.status >= 500 ||
    (request.grpcStatus ?? 0) !== 0;
  return (!filter.isFailedOnly || hasFailed) && matchesEnds(filter, connection);
}

/** A policy said no: here, or at the other end, which answers 401 to the proxy that asked. */
export function isDenied({ reason, error }: Pick<ConnectionRecord, 'reason' | 'error'>): boolean {
  if (reason === 'hbone.status' || reason === 'hbone.refused_stream') return error?.includes('401') === true;
  return reason?.startsWith('policy.') === true;
}

function matchesEnds({ from, to, namespace }: RecordFilter, record: ConnectionRecord): boolean {
  const { source, destination, service } = record;
  if (from !== undefined && !isPeer(source, from)) return false;
  if (to !== undefined && !isPeer(destination, to) && !isService(service?.hostname, service?.namespace, to)) {
    return record.originalDestination?.ip === to;
  }
  return (
    namespace === undefined ||
    source.workload?.namespace === namespace ||
    destination.workload?.namespace === namespace ||
    service?.namespace === namespace
  );
}

function isPeer({ workload, address }: RecordPeer, wanted: string): boolean {
  if (address.ip === wanted) return true;
  if (workload === undefined) return false;
  const slash = wanted.indexOf('/');
  const name = wanted.slice(slash + 1);
  if (slash >= 0 && workload.namespace !== wanted.slice(0, slash)) return false;
  return name === '' || workload.workloadName === name || workload.name === name || workload.canonicalName === name;
}

function isService(hostname: string | undefined, namespace: string | undefined, wanted: string): boolean {
  if (hostname === undefined) return false;
  if (hostname === wanted) return true;
  const first = hostname.slice(0, Math.max(0, hostname.indexOf('.')));
  return wanted === first || wanted === `${namespace}/${first}`;
}
