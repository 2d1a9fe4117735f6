// What a bed's mesh consists of, as the control plane would say it: folds pods, services and policies into the contents of
// the mesh file. Holds values only.
import {
  createService,
  type Ip,
  type LoadBalancer,
  type Policy,
  parseIp,
  policyKey,
  type Service,
  serviceKey,
} from '@ambit/mesh';
import { MAX_SERVICES, NumberPool, serviceAddress } from './address-plan.ts';
import { TestbedError } from './errors.ts';
import type { ServiceFacts } from './kube-objects.ts';
import type { MeshContents } from './mesh-file.ts';
import { checkLabel, type Pod } from './pod.ts';

export interface ServiceOptions {
  readonly name: string;
  readonly namespace: string;
  /** Virtual addresses. Default: one of each family from the bed's ranges; none makes it headless. */
  readonly vips?: readonly string[];
  /** Service port to target port. */
  readonly ports: Readonly<Record<number, number>>;
  /** Endpoints: pods of the namespace with this app, now and later. Default: the service's name. */
  readonly app?: string;
  /** Endpoints named one by one, instead of `app`. */
  readonly pods?: readonly Pod[];
  readonly loadBalancer?: LoadBalancer;
  readonly subjectAltNames?: readonly string[];
}

/** A policy with the defaults that a person would expect. */
export interface BedPolicy {
  readonly name: string;
  readonly namespace: string;
  /** Default `Namespace`, or `WorkloadSelector` with `app`. */
  readonly scope?: Policy['scope'];
  /** Pods of the namespace with this app. */
  readonly app?: string;
  /** Default `Allow`. */
  readonly action?: Policy['action'];
  readonly dryRun?: boolean;
  readonly rules: Policy['rules'];
}

interface BedService {
  readonly endpoints: ServiceFacts['endpoints'];
  readonly service: Service;
  readonly number: number;
  readonly selects: (pod: Pod) => boolean;
}

export class BedState {
  readonly #trustDomain: string;
  readonly #clusterId: string;
  readonly #clusterDomain = 'cluster.local';
  readonly #pods = new Set<Pod>();
  readonly #services = new Map<string, BedService>();
  readonly #serviceNumbers = new NumberPool('services', MAX_SERVICES);
  #policies: readonly BedPolicy[] = [];

  constructor(trustDomain: string, clusterId: string) {
    this.#trustDomain = trustDomain;
    this.#clusterId = clusterId;
  }

  get pods(): readonly Pod[] {
    return [...this.#pods];
  }

  get services(): readonly Service[] {
    return [...this.#services.values()].map(({ service }) => service);
  }

  /** Services with how they find their pods. */
  get serviceFacts(): readonly ServiceFacts[] {
    return [...this.#services.values()];
  }

  addPod(pod: Pod): void {
    this.#pods.add(pod);
  }

  /** @returns whether it was there */
  removePod(pod: Pod): boolean {
    return this.#pods.delete(pod);
  }

  /** @throws testbed.argument, testbed.name_taken, testbed.limit */
  addService(options: ServiceOptions): Service {
    const { name, namespace } = options;
    checkLabel('service name', name);
    checkLabel('namespace', namespace);
    const hostname = `${name}.${namespace}.svc.${this.#clusterDomain}`;
    const key = serviceKey({ namespace, hostname });
    if (this.#services.has(key))
      throw new TestbedError('testbed.name_taken', `there is a service ${namespace}/${name}`);
    const number = this.#serviceNumbers.take();
    const { ip4, ip6 } = serviceAddress(number);
    const addresses = options.vips ?? [ip4, ip6];
    const service = createService({
      name,
      namespace,
      hostname,
      canonical: true,
      loadBalancer: options.loadBalancer,
      vips: addresses.map(text => ({ network: '', ip: readIp(text) })),
      ports: new Map(Object.entries(options.ports).map(([port, target]) => [Number(port), target])),
      subjectAltNames: options.subjectAltNames ?? [],
    });
    const app = options.app ?? name;
    const chosen = options.pods === undefined ? undefined : new Set(options.pods);
    const selects = (pod: Pod) => chosen?.has(pod) ?? (pod.namespace === namespace && pod.app === app);
    const endpoints = options.pods === undefined ? { app } : { pods: options.pods };
    this.#services.set(key, { service, number, selects, endpoints });
    return service;
  }

  removeService(service: Service): void {
    const known = this.#services.get(serviceKey(service));
    if (known === undefined) return;
    this.#services.delete(serviceKey(service));
    this.#serviceNumbers.release(known.number);
  }

  setPolicies(policies: readonly BedPolicy[]): void {
    const keys = new Set(policies.map(policy => policyKey(policy)));
    if (keys.size < policies.length) throw new TestbedError('testbed.name_taken', 'two policies with the same name');
    this.#policies = policies;
  }

  describe(): MeshContents {
    return {
      workloads: this.pods.map(pod => pod.describe(this.#factsOf(pod))),
      services: this.services,
      policies: this.#policies.map(completePolicy),
    };
  }

  #factsOf(pod: Pod): Parameters<Pod['describe']>[0] {
    const services = [...this.#services.values()].filter(({ selects }) => selects(pod));
    const policies = this.#policies.filter(
      p => scopeOf(p) === 'WorkloadSelector' && p.namespace === pod.namespace && p.app === pod.app,
    );
    return {
      trustDomain: this.#trustDomain,
      clusterId: this.#clusterId,
      services: new Map(services.map(({ service }) => [serviceKey(service), service.ports])),
      authorizationPolicies: policies.map(policy => policyKey(policy)),
    };
  }
}

function scopeOf(policy: BedPolicy): Policy['scope'] {
  return policy.scope ?? (policy.app === undefined ? 'Namespace' : 'WorkloadSelector');
}

function completePolicy(policy: BedPolicy): Policy {
  const { name, namespace, rules } = policy;
  return {
    name,
    namespace,
    scope: scopeOf(policy),
    action: policy.action ?? 'Allow',
    dryRun: policy.dryRun ?? false,
    rules,
  };
}

function readIp(text: string): Ip {
  const ip = parseIp(text);
  if (ip === undefined) throw new TestbedError('testbed.argument', `not an address: ${JSON.stringify(text)}`);
  return ip;
}
