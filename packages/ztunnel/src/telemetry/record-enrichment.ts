// A worker knows of an inbound connection's source only the address, with TLS the proven identity, and what the peer says of
// itself; the view of the mesh knows whose address it is. The main thread completes records with that before anyone reads
// them. It is a look-up and no proof: `source.identity` alone says what was verified.
import { type MeshView, summarizeWorkload } from '@ambit/mesh';
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';

/** The record with its source workload, as far as `view` knows it: that goes before what the source says. */
export function withSource(record: ConnectionRecord, view: MeshView, network: string): ConnectionRecord {
  if (record.direction !== 'inbound') return record;
  const workload = view.workloadByAddress(network, record.source.address.ip);
  if (workload === undefined) return record;
  return { ...record, source: { ...record.source, workload: summarizeWorkload(workload) } };
}

/** The same for a request that was told of. */
export function withRequestSource(told: RequestRecord, view: MeshView, network: string): RequestRecord {
  const connection = withSource(told.connection, view, network);
  return connection === told.connection ? told : { ...told, connection };
}
