// The mesh as the main thread knows it. Changes come in batches (one xDS response, one file) and are applied in one
// synchronous call, so a reader never sees half a batch. Order inside a batch: workloads, services, policies, removals.
import type { Ip } from './address.ts';
import { NameIndex } from './dns/name-index.ts';
import type { ServiceNames } from './dns/service-names.ts';
import type { StaleNames } from './dns/types.ts';
import type { Policy } from './policy.ts';
import { PolicyIndex } from './policy-index.ts';
import { type Service, serviceKey } from './service.ts';
import { ServiceIndex } from './service-index.ts';
import type { AddressOwner, MeshView, PodKey, ServiceEndpoint } from './view.ts';
import type { PortMap, Workload } from './workload.ts';
import { WorkloadIndex } from './workload-index.ts';

export interface KeyedPolicy {
  /** The xDS resource name; `policyKey(policy)` for policies from a file. */
  readonly key: string;
  readonly policy: Policy;
}

export interface MeshBatch {
  readonly upsertWorkloads?: readonly Workload[];
  readonly upsertServices?: readonly Service[];
  readonly upsertPolicies?: readonly KeyedPolicy[];
  /** Uids. */
  readonly removeWorkloads?: readonly string[];
  /** `namespace/hostname`. */
  readonly removeServices?: readonly string[];
  /** xDS names of Address resources: a uid, or else `namespace/hostname`. */
  readonly removeAddresses?: readonly string[];
  readonly removePolicies?: readonly string[];
}

export interface MeshContent {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly policies: readonly KeyedPolicy[];
}

export interface BatchOutcome {
  /** Names that were to be removed and were not there. */
  readonly unknown: readonly string[];
  /** Whether any policy was added, replaced or removed. */
  readonly policiesChanged: boolean;
}

export interface MeshStateOptions {
  /** Only workloads of this node can be a pod's own workload; undefined accepts every node. */
  readonly localNode?: string | undefined;
}

const NO_PORTS: PortMap = new Map();

export class MeshState implements MeshView {
  readonly #localNode: string | undefined;
  #workloads: WorkloadIndex;
  #services = new ServiceIndex();
  #policies = new PolicyIndex();
  /** Undefined until somebody asks for names. */
  #names: NameIndex | undefined;
  #hasLostNames = false;
  #version = 0;

  constructor(options: MeshStateOptions = {}) {
    this.#localNode = options.localNode === '' ? undefined : options.localNode;
    this.#workloads = new WorkloadIndex(this.#localNode);
  }

  applyBatch(batch: MeshBatch): BatchOutcome {
    const unknown: string[] = [];
    let policiesChanged = (batch.upsertPolicies?.length ?? 0) > 0;
    for (const workload of batch.upsertWorkloads ?? []) this.#upsertWorkload(workload);
    for (const service of batch.upsertServices ?? []) this.#upsertService(service);
    for (const { key, policy } of batch.upsertPolicies ?? []) this.#policies.upsert(key, policy);
    for (const uid of batch.removeWorkloads ?? []) if (!this.#removeWorkload(uid)) unknown.push(uid);
    for (const key of batch.removeServices ?? []) if (!this.#removeService(key)) unknown.push(key);
    for (const name of batch.removeAddresses ?? []) {
      if (!this.#removeWorkload(name) && !this.#removeService(name)) unknown.push(name);
    }
    for (const key of batch.removePolicies ?? []) {
      if (this.#policies.remove(key)) policiesChanged = true;
      else unknown.push(key);
    }
    this.#version++;
    return { unknown, policiesChanged };
  }

  /**
   * Forgets everything and takes this content instead, as after loading a file. Content that is stated as a whole has no
   * gaps, so keys removed earlier are forgotten too.
   */
  replaceAll(content: MeshContent): void {
    this.#workloads = new WorkloadIndex(this.#localNode);
    this.#services = new ServiceIndex();
    this.#policies = new PolicyIndex();
    this.#hasLostNames ||= this.#names !== undefined;
    this.#names = undefined;
    this.applyBatch({
      upsertWorkloads: content.workloads,
      upsertServices: content.services,
      upsertPolicies: content.policies,
    });
  }

  get version(): number {
    return this.#version;
  }

  get counts(): { readonly workloads: number; readonly services: number; readonly policies: number } {
    return { workloads: this.#workloads.size, services: this.#services.size, policies: this.#policies.size };
  }

  workloadByUid(uid: string): Workload | undefined {
    return this.#workloads.byUid(uid);
  }

  workloadByAddress(network: string, ip: Ip): Workload | undefined {
    return this.#workloads.byAddress(network, ip);
  }

  workloadForPod(pod: PodKey): Workload | undefined {
    return this.#workloads.byPod(pod);
  }

  workloadByHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#workloads.byHostname(namespace, hostname);
  }

  /** Whether a workload of this node runs under that service account; if not, its certificate can be forgotten. */
  usesIdentity(namespace: string, serviceAccount: string): boolean {
    return this.#workloads.usesIdentity(namespace, serviceAccount);
  }

  service(namespace: string, hostname: string): Service | undefined {
    return this.#services.byKey(`${namespace}/${hostname}`);
  }

  serviceByKey(key: string): Service | undefined {
    return this.#services.byKey(key);
  }

  servicesByHostname(hostname: string): readonly Service[] {
    return this.#services.byHostname(hostname);
  }

  serviceByHostname(hostname: string, clientNamespace: string | undefined): Service | undefined {
    return this.#services.bestByHostname(hostname, clientNamespace);
  }

  serviceByVip(network: string, ip: Ip, clientNamespace: string | undefined): Service | undefined {
    return this.#services.bestByVip(network, ip, clientNamespace);
  }

  findAddress(network: string, ip: Ip, clientNamespace: string | undefined): AddressOwner | undefined {
    const workload = this.#workloads.byAddress(network, ip);
    if (workload !== undefined) return { kind: 'workload', workload };
    const service = this.#services.bestByVip(network, ip, clientNamespace);
    return service === undefined ? undefined : { kind: 'service', service };
  }

  endpoints(service: Service): readonly ServiceEndpoint[] {
    const key = serviceKey(service);
    const contributors = this.#services.contributors(key);
    const endpoints: ServiceEndpoint[] = [];
    for (const workload of contributors.values()) {
      const ports = workload.services.get(key) ?? NO_PORTS;
      endpoints.push({ workload, ports, isHealthy: workload.status === 'Healthy' });
    }
    for (const declared of service.endpoints.values()) {
      if (contributors.has(declared.workloadUid)) continue;
      const workload = this.#workloads.byUid(declared.workloadUid);
      if (workload === undefined) continue;
      endpoints.push({ workload, ports: declared.port, isHealthy: declared.status === 'Healthy' });
    }
    return endpoints;
  }

  isEndpoint(service: Service, workloadUid: string): boolean {
    return this.endpointPorts(service, workloadUid) !== undefined;
  }

  endpointPorts(service: Service, workloadUid: string): PortMap | undefined {
    const key = serviceKey(service);
    const contributor = this.#services.contributors(key).get(workloadUid);
    if (contributor !== undefined) return contributor.services.get(key) ?? NO_PORTS;
    return service.endpoints.get(workloadUid)?.port;
  }

  get names(): ServiceNames {
    this.#names ??= new NameIndex(
      { serviceByKey: key => this.#services.byKey(key), endpoints: service => this.endpoints(service) },
      this.#services.values(),
    );
    return this.#names;
  }

  /**
   * Which decisions about names no longer hold, of all since the last call; undefined: every one does. Says nothing until
   * `names` was used.
   */
  takeStaleNames(): StaleNames | undefined {
    const stale = this.#names?.takeStale();
    if (!this.#hasLostNames) return stale;
    this.#hasLostNames = false;
    return { kind: 'all' };
  }

  policy(key: string): Policy | undefined {
    return this.#policies.get(key);
  }

  globalPolicies(): Iterable<Policy> {
    return this.#policies.global();
  }

  namespacePolicies(namespace: string): Iterable<Policy> {
    return this.#policies.ofNamespace(namespace);
  }

  wasPolicyRemoved(key: string): boolean {
    return this.#policies.wasRemoved(key);
  }

  workloads(): Iterable<Workload> {
    return this.#workloads.values();
  }

  services(): Iterable<Service> {
    return this.#services.values();
  }

  policies(): Iterable<readonly [string, Policy]> {
    return this.#policies.entries();
  }

  #upsertWorkload(workload: Workload): void {
    const { stored, previous } = this.#workloads.upsert(workload);
    this.#services.moveEndpoints(previous, stored);
    this.#names?.workloadChanged(previous, stored);
  }

  #removeWorkload(uid: string): boolean {
    const removed = this.#workloads.remove(uid);
    if (removed === undefined) return false;
    this.#services.moveEndpoints(removed, undefined);
    this.#names?.workloadChanged(removed, undefined);
    return true;
  }

  #upsertService(service: Service): void {
    const previous = this.#services.byKey(serviceKey(service));
    this.#services.upsert(service);
    this.#names?.serviceChanged(previous, service);
  }

  #removeService(key: string): boolean {
    const removed = this.#services.remove(key);
    if (removed === undefined) return false;
    this.#names?.serviceChanged(removed, undefined);
    return true;
  }
}
