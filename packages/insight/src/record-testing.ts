// Connection records for tests: what is not named is ordinary.
import type { Ip, WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord, RecordNews, RequestTally } from '@ambit/proxy';
import { LATENCY_BOUNDS_MS } from './counts.ts';

export function workload(name: string, namespace = 'shop'): WorkloadSummary {
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}-1`,
    name: `${name}-1`,
    namespace,
    serviceAccount: name,
    trustDomain: 'cluster.local',
    workloadName: name,
    workloadType: 'deployment',
    canonicalName: name,
    canonicalRevision: 'v1',
    cluster: 'Kubernetes',
    node: 'n1',
    region: '',
    zone: '',
  };
}

export function news(more: Partial<RecordNews> = {}): RecordNews {
  return { opened: false, bytesToServer: 0, bytesToClient: 0, retransmits: 0, untalliedRequests: 0, ...more };
}

/** A whole connection of `shop/web` to `shop/cart`, told in one record. */
export function record(more: Partial<ConnectionRecord> = {}): ConnectionRecord {
  return {
    event: 'close',
    id: '0-1',
    pod: 'p',
    direction: 'outbound',
    protocol: 'HBONE',
    startedAtMs: 0,
    source: {
      address: { ip: '10.0.0.1' as Ip, port: 4000 },
      workload: workload('web'),
      identity: 'spiffe://t/ns/shop/sa/web',
    },
    destination: {
      address: { ip: '10.0.0.2' as Ip, port: 15_008 },
      workload: workload('cart'),
      identity: 'spiffe://t/ns/shop/sa/cart',
    },
    originalDestination: { ip: '10.96.0.1' as Ip, port: 80 },
    hboneAuthority: '10.0.0.2:8080',
    service: { namespace: 'shop', name: 'cart', hostname: 'cart.shop.svc.cluster.local' },
    tls: { version: 'TLSv1.3', suite: 'TLS_AES_128_GCM_SHA256', group: 'X25519MLKEM768' },
    fresh: news({ opened: true, bytesToServer: 100, bytesToClient: 1000 }),
    bytesToServer: 100,
    bytesToClient: 1000,
    durationMs: 5,
    connectMs: 1,
    ...more,
  };
}

/** `count` HTTP requests that took `durationMs` each. */
export function tally(count: number, durationMs: number, more: Partial<RequestTally> = {}): RequestTally {
  const buckets = [...LATENCY_BOUNDS_MS.map(() => 0), 0];
  const index = LATENCY_BOUNDS_MS.findIndex(bound => durationMs <= bound);
  buckets[index < 0 ? LATENCY_BOUNDS_MS.length : index] = count;
  return {
    protocol: 'http',
    status: 200,
    method: '',
    path: '',
    count,
    durationSumMs: count * durationMs,
    durations: buckets,
    requestBytes: 0,
    requestSizes: buckets,
    responseBytes: 0,
    responseSizes: buckets,
    requestMessages: 0,
    responseMessages: 0,
    ...more,
  };
}
