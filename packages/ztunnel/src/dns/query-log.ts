// Answered questions in the log: target `dns`, level debug, upstream's fields. Unlike upstream's the line has a message, and
// `endpoints` counts the addresses.
import type { Logger } from '../log.ts';
import type { PodInfo } from '../worker-protocol.ts';
import type { DnsRecord } from './dns-messages.ts';

export function logQueries(
  log: Logger,
  records: readonly DnsRecord[],
  podOf: (uid: string) => PodInfo | undefined,
): void {
  for (const { uid, query, domain, result, error, endpoints } of records) {
    const pod = podOf(uid);
    log.debug('DNS query answered', [
      ['src.workload', pod?.name ?? 'unknown'],
      ['src.namespace', pod?.namespace ?? 'unknown'],
      ['query', query],
      ['domain', domain],
      ['result', error === undefined ? result : `${result} (${error})`],
      ['endpoints', endpoints],
    ]);
  }
}
