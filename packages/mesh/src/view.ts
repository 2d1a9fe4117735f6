// The read-only view of the mesh that every decision is made against. A view is consistent for as long as nobody yields
// to the event loop: whoever changes it (MeshState) does so in one synchronous call.
import type { Ip } from './address.ts';
import type { ServiceNames } from './dns/service-names.ts';
import type { Policy } from './policy.ts';
import type { Service } from './service.ts';
import type { PortMap, Workload } from './workload.ts';

/** Which pod a proxy instance serves, as the node knows it. */
export interface PodKey {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export type AddressOwner =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service };

/** A workload as an endpoint of one service. Unhealthy ones are included: selection decides. */
export interface ServiceEndpoint {
  readonly workload: Workload;
  /** What the endpoint itself maps; empty when it leaves that to the service. */
  readonly ports: PortMap;
  readonly isHealthy: boolean;
}

export interface MeshView {
  /** Grows with every change; equal versions mean equal content. */
  readonly version: number;

  workloadByUid(uid: string): Workload | undefined;
  /** Never finds host-network workloads. When several share the address: pods before others, HBONE before TCP, newest first. */
  workloadByAddress(network: string, ip: Ip): Workload | undefined;
  /** The local workload of a pod: all three fields must match. */
  workloadForPod(pod: PodKey): Workload | undefined;
  workloadByHostname(namespace: string, hostname: string): Workload | undefined;

  service(namespace: string, hostname: string): Service | undefined;
  /** By `namespace/hostname`. */
  serviceByKey(key: string): Service | undefined;
  servicesByHostname(hostname: string): readonly Service[];
  /**
   * The best service of that name for a client: its own namespace, then canonical, then the smallest key. A client
   * namespace of undefined enforces no visibility.
   */
  serviceByHostname(hostname: string, clientNamespace: string | undefined): Service | undefined;
  /** The best service for an address, same order as by name; exact addresses before blocks. */
  serviceByVip(network: string, ip: Ip, clientNamespace: string | undefined): Service | undefined;
  /** Workload first, then service. */
  findAddress(network: string, ip: Ip, clientNamespace: string | undefined): AddressOwner | undefined;

  /** All endpoints of a service whose workload is known, healthy or not. */
  endpoints(service: Service): readonly ServiceEndpoint[];
  isEndpoint(service: Service, workloadUid: string): boolean;
  /** What an endpoint maps for a service; undefined when it is none. */
  endpointPorts(service: Service, workloadUid: string): PortMap | undefined;

  /** For answering names. Made at the first use, and kept up to date from then on. */
  readonly names: ServiceNames;

  policy(key: string): Policy | undefined;
  globalPolicies(): Iterable<Policy>;
  namespacePolicies(namespace: string): Iterable<Policy>;
  /** Whether a policy of that key was known once and has been taken away on purpose. */
  wasPolicyRemoved(key: string): boolean;

  workloads(): Iterable<Workload>;
  services(): Iterable<Service>;
  /** Key and policy. */
  policies(): Iterable<readonly [string, Policy]>;
}
