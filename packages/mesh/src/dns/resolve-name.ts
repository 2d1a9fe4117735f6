// What the mesh says to a name: upstream's algorithm (aliases, wildcards, then the best service), and names of single pods,
// which upstream forwards. What it does not know it forwards; it never says that a name does not exist.
import { type Ip, type IpFamily, ipFamily } from '../address.ts';
import { type Service, serviceKey } from '../service.ts';
import type { MeshView, ServiceEndpoint } from '../view.ts';
import { type Alias, aliasesOf, podSearchDomains } from './aliases.ts';
import type { ServiceNames } from './service-names.ts';
import type { DnsClient, DnsDecision, DnsQuestion, DnsSettings, DnsStep } from './types.ts';

/** As upstream's; long enough for resolvers to keep, since the address of a service stays. */
export const SERVICE_TTL_SECONDS = 30;
/** Of names that lead to pods themselves, which come and go. Upstream says 30 here too. CoreDNS's own default is 5. */
export const ENDPOINT_TTL_SECONDS = 5;

/** What deciding takes of the mesh. */
export type NameView = Pick<MeshView, 'names' | 'endpoints'>;

/** Decides one question. Pure: the decision holds until the mesh says that the name is stale (`takeStaleNames`). */
export function resolveName(
  view: NameView,
  client: DnsClient,
  question: DnsQuestion,
  settings: DnsSettings,
): DnsDecision {
  return new NameResolution(view, client, question, settings).decide();
}

interface Found {
  readonly alias: Alias;
  readonly service: Service;
  readonly isWildcard: boolean;
}

class NameResolution {
  readonly #view: NameView;
  readonly #names: ServiceNames;
  readonly #client: DnsClient;
  readonly #question: DnsQuestion;
  readonly #family: IpFamily;
  readonly #settings: DnsSettings;
  /** `.svc.` and the cluster's domain: the end of all host names that Kubernetes gives. */
  readonly #kubernetes: string;
  readonly #steps: DnsStep[] = [];

  constructor(view: NameView, client: DnsClient, question: DnsQuestion, settings: DnsSettings) {
    this.#view = view;
    this.#names = view.names;
    this.#client = client;
    this.#question = question;
    this.#family = question.type === 'A' ? 'ipv4' : 'ipv6';
    this.#settings = settings;
    this.#kubernetes = `.svc.${settings.clusterDomain}`;
  }

  decide(): DnsDecision {
    const { clusterDomain, searchDomains } = this.#settings;
    const { namespace } = this.#client;
    const aliases = aliasesOf(this.#question.name, {
      clusterDomain,
      namespace,
      searchDomains: searchDomains ?? podSearchDomains(namespace, clusterDomain),
    });
    return this.#asService(aliases) ?? this.#asEndpoint(aliases) ?? this.#forward(aliases);
  }

  #asService(aliases: readonly Alias[]): DnsDecision | undefined {
    const found = this.#findService(aliases);
    if (found === undefined) return undefined;
    const { alias, service, isWildcard } = found;
    const canonical = isWildcard ? undefined : alias.stripped;
    const isHeadless = service.vips.length === 0;
    const ttlSeconds = isHeadless ? ENDPOINT_TTL_SECONDS : SERVICE_TTL_SECONDS;
    if (!this.#isFamilyServed(service)) return this.#answer(service, canonical, [], ttlSeconds);
    const addresses = isHeadless ? this.#endpointAddresses(service) : this.#ownAddresses(service);
    return this.#answer(service, canonical, addresses, ttlSeconds);
  }

  /** All wildcards of one alias come before the next alias, as upstream. */
  #findService(aliases: readonly Alias[]): Found | undefined {
    for (const alias of aliases) {
      const service = this.#pick(this.#names.named(alias.name));
      if (service !== undefined) return this.#found({ alias, service, isWildcard: false });
      if (!this.#names.hasWildcards) continue;
      for (let dot = alias.name.indexOf('.'); dot >= 0; dot = alias.name.indexOf('.', dot + 1)) {
        const covering = this.#pick(this.#names.covering(alias.name.slice(dot + 1)));
        if (covering !== undefined) return this.#found({ alias, service: covering, isWildcard: true });
      }
    }
    return undefined;
  }

  #found(found: Found): Found {
    const { alias, service } = found;
    const { name } = this.#question;
    if (alias.stripped !== undefined) this.#note(`${alias.stripped} is ${name} without a search domain`);
    if (alias.name !== (alias.stripped ?? name)) this.#note(`${alias.stripped ?? name} is short for ${alias.name}`);
    this.#note(`${alias.name} is service ${service.namespace}/${service.name} (${service.hostname})`);
    return found;
  }

  /** A pod of a StatefulSet: `pod.service.namespace.svc` and the domain, of a service without an address. */
  #asEndpoint(aliases: readonly Alias[]): DnsDecision | undefined {
    for (const alias of aliases) {
      const parent = this.#serviceOfEndpoint(alias.name);
      const service = parent === undefined ? undefined : this.#pick(this.#names.named(parent));
      if (parent === undefined || service === undefined || service.vips.length > 0) continue;
      const label = alias.name.slice(0, alias.name.length - parent.length - 1);
      const named = this.#names.endpointsNamed(service, label);
      const endpoints = named.length > 0 ? named : this.#names.endpointsNamed(service, alias.name);
      const usable = endpoints.filter(endpoint => this.#isTold(service, endpoint));
      const [only] = usable;
      if (only === undefined) continue;
      if (usable.length > 1) {
        // The same StatefulSet in two clusters: only the cluster's own DNS knows which of the twins the client means.
        this.#note(`${alias.name} is the name of ${usable.length} endpoints of ${serviceKey(service)}`);
        return undefined;
      }
      this.#note(
        `${alias.name} is endpoint ${only.workload.namespace}/${only.workload.name} of ${serviceKey(service)}`,
      );
      const addresses = this.#isFamilyServed(service) ? this.#firstAddress(only) : [];
      return this.#answer(service, alias.stripped, addresses, ENDPOINT_TTL_SECONDS);
    }
    return undefined;
  }

  /** The host name of the service whose endpoint would be called so. */
  #serviceOfEndpoint(name: string): string | undefined {
    if (!name.endsWith(this.#kubernetes)) return undefined;
    const labels = name.slice(0, name.length - this.#kubernetes.length).split('.', 4);
    return labels.length === 3 ? name.slice(name.indexOf('.') + 1) : undefined;
  }

  #pick(candidates: readonly Service[]): Service | undefined {
    let best: Service | undefined;
    for (const candidate of candidates) {
      if (!this.#mayAnswer(candidate)) continue;
      if (best === undefined || this.#isBetter(candidate, best)) best = candidate;
    }
    return best;
  }

  #mayAnswer(service: Service): boolean {
    if (service.vips.length === 0 && !service.hostname.toLowerCase().endsWith(this.#kubernetes)) {
      this.#note(`${serviceKey(service)} has no address of its own and does not count`);
      return false;
    }
    if (service.visibility === 'Namespace' && service.namespace !== this.#client.namespace) {
      this.#note(`${serviceKey(service)} is seen in its own namespace only`);
      return false;
    }
    return true;
  }

  /** The client's namespace, then canonical, then the preferred namespace; the key makes all nodes agree on the rest. */
  #isBetter(a: Service, b: Service): boolean {
    const { namespace } = this.#client;
    const preferred = this.#settings.preferredNamespace;
    const byClaim =
      Number(a.namespace === namespace) - Number(b.namespace === namespace) ||
      Number(a.canonical) - Number(b.canonical) ||
      Number(a.namespace === preferred) - Number(b.namespace === preferred);
    return byClaim === 0 ? serviceKey(a) < serviceKey(b) : byClaim > 0;
  }

  #isFamilyServed(service: Service): boolean {
    if (this.#family === 'ipv6' && !this.#settings.ipv6) {
      this.#note('IPv6 is switched off');
      return false;
    }
    const only = service.ipFamilies;
    if (only === undefined || only === 'Dual' || (only === 'IPv4') === (this.#family === 'ipv4')) return true;
    this.#note(`the service is for ${only} only`);
    return false;
  }

  #ownAddresses(service: Service): readonly Ip[] {
    const here = service.vips.filter(({ network }) => network === this.#client.network);
    if (here.length < service.vips.length)
      this.#note(`${service.vips.length - here.length} of its addresses are in other networks`);
    return here.map(({ ip }) => ip).filter(ip => ipFamily(ip) === this.#family);
  }

  #endpointAddresses(service: Service): readonly Ip[] {
    const endpoints = this.#view.endpoints(service);
    const told = endpoints.filter(endpoint => this.#isTold(service, endpoint));
    this.#note(`it has no address of its own; ${told.length} of ${endpoints.length} endpoints count`);
    return told.flatMap(endpoint => this.#firstAddress(endpoint));
  }

  /** Addresses of other networks lead nowhere from here, and may be somebody else's. */
  #isTold(service: Service, { workload, isHealthy }: ServiceEndpoint): boolean {
    return (
      workload.network === this.#client.network && (isHealthy || service.loadBalancer?.healthPolicy === 'AllowAll')
    );
  }

  #firstAddress({ workload }: ServiceEndpoint): readonly Ip[] {
    const first = workload.workloadIps.find(ip => ipFamily(ip) === this.#family);
    return first === undefined ? [] : [first];
  }

  #answer(
    { hostname }: Service,
    canonical: string | undefined,
    addresses: readonly Ip[],
    ttlSeconds: number,
  ): DnsDecision {
    const unique = [...new Set(addresses)];
    if (unique.length === 0) this.#note(`it has no ${this.#question.type} record for this client`);
    return { kind: 'answer', canonical, addresses: unique, ttlSeconds, service: hostname, steps: this.#steps };
  }

  #forward(aliases: readonly Alias[]): DnsDecision {
    const others = aliases.length === 1 ? '' : ` or what it may be short for (${aliases.length - 1} names)`;
    this.#note(`no service of the mesh is called ${this.#question.name}${others}: the node's resolvers know`);
    return { kind: 'forward', steps: this.#steps };
  }

  #note(what: string): void {
    this.#steps.push({ what });
  }
}
