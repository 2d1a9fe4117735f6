// A live connection as upstream's config_dump shows it in `workloadState`. Pure.
import { formatSocketAddress } from '@ambit/mesh';
import type { ConnectionFacts } from '../worker/connection-facts.ts';

/** Field names are upstream's. */
export interface ConnectionShape {
  /** Who carries it on: the application for inbound connections, the next hop for outbound ones. */
  readonly actualDst: string;
  /** Inbound: the host of the `Forwarded` header, which is not kept, hence null. Outbound: where the application connected to. */
  readonly originalDst: string | null;
  readonly protocol: 'HBONE' | 'DOUBLEHBONE' | 'TCP';
  readonly src: string;
}

export function connectionShape(facts: ConnectionFacts): ConnectionShape {
  const isOutbound = facts.direction === 'outbound';
  const destination = formatSocketAddress(facts.destination);
  return {
    actualDst: isOutbound ? destination : (facts.authority ?? destination),
    originalDst: !isOutbound
      ? null
      : facts.originalDestination === undefined
        ? destination
        : formatSocketAddress(facts.originalDestination),
    // As upstream: inbound is what the peer proved, whatever carried it.
    protocol: isOutbound ? facts.protocol : facts.sourceIdentity === undefined ? 'TCP' : 'HBONE',
    src: formatSocketAddress(facts.source),
  };
}
