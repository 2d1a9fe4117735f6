// Services and ServiceEntries that reach nothing, or not what they say.
import { nearestName } from '@ambit/mesh';
import type { Diagnostic } from '../diagnostic.ts';
import type { ServiceEntryObject, ServiceObject } from '../objects/types.ts';
import { finding, nameOf } from './check.ts';
import type { Known, WorkloadObject } from './known.ts';

export function* checkServices(known: Known): Iterable<Diagnostic> {
  if (known.knowsWorkloads) for (const service of known.all('Service')) yield* checkSelector(service, known);
  yield* checkHosts(known);
}

function* checkSelector(service: ServiceObject, known: Known): Iterable<Diagnostic> {
  const { selector, type, ports } = service.spec;
  if (type === 'ExternalName' || Object.keys(selector).length === 0) return;
  const chosen = known.select(service.metadata.namespace, selector);
  if (chosen.length === 0) {
    const message = `the selector matches no workload of namespace ${service.metadata.namespace}`;
    const remedy = 'compare it with the labels of the pods';
    yield finding(service, 'warning', 'service.selects_nothing', 'spec.selector', message, remedy);
    return;
  }
  for (const [index, { targetPort, protocol }] of ports.entries()) {
    if (typeof targetPort !== 'string' || protocol !== 'TCP') continue;
    const names = new Set(chosen.flatMap(portNames));
    if (names.has(targetPort)) continue;
    const nearest = nearestName(targetPort, [...names]);
    const message = `none of the ${chosen.length} workloads has a TCP port named "${targetPort}", so this port leads nowhere`;
    const remedy =
      nearest === undefined ? 'name the port in the pods, or write its number' : `did you mean ${nearest}?`;
    yield finding(service, 'warning', 'service.no_such_port', `spec.ports[${index}].targetPort`, message, remedy);
  }
}

function portNames(workload: WorkloadObject): readonly string[] {
  return workload.kind === 'Pod'
    ? workload.spec.ports.filter(({ protocol }) => protocol === 'TCP').map(({ name }) => name)
    : Object.keys(workload.spec.ports);
}

/** Host names that objects of several namespaces claim; two of one namespace are told by the translation. */
function* checkHosts(known: Known): Iterable<Diagnostic> {
  const services = new Map<string, ServiceObject>(
    known.all('Service').map(service => {
      const { name, namespace } = service.metadata;
      return [`${name}.${namespace}.svc.${known.settings.clusterDomain}`, service] as const;
    }),
  );
  const claims = new Map<string, ServiceEntryObject>();
  const entries = known.all('ServiceEntry').toSorted(byAge);
  for (const entry of entries) {
    for (const [index, host] of entry.spec.hosts.entries()) {
      const winner = services.get(host) ?? claims.get(host);
      if (winner === undefined) claims.set(host, entry);
      else if (winner.metadata.namespace !== entry.metadata.namespace) yield elsewhere(entry, index, host, winner);
    }
  }
  for (const entry of entries) yield* checkWildcards(entry, claims);
}

function elsewhere(
  entry: ServiceEntryObject,
  index: number,
  host: string,
  winner: ServiceEntryObject | ServiceObject,
): Diagnostic {
  const { namespace } = entry.metadata;
  const message = `${host} is a host of ${winner.kind} ${nameOf(winner)} too; only callers of namespace ${namespace} get this one`;
  const remedy = 'let one object have the host; Services win over ServiceEntries, and older ones over younger';
  return finding(entry, 'warning', 'service_entry.host_elsewhere', `spec.hosts[${index}]`, message, remedy);
}

/** `*.example.com` of one object covers a host of another: legal, and worth knowing. */
function* checkWildcards(
  entry: ServiceEntryObject,
  claims: ReadonlyMap<string, ServiceEntryObject>,
): Iterable<Diagnostic> {
  for (const [index, host] of entry.spec.hosts.entries()) {
    let rest = host.startsWith('*.') ? host.slice(2) : host;
    for (let dot = rest.indexOf('.'); dot >= 0; dot = rest.indexOf('.')) {
      rest = rest.slice(dot + 1);
      const other = claims.get(`*.${rest}`);
      if (other === undefined || other === entry) continue;
      const message = `${host} is also covered by *.${rest} of ServiceEntry ${nameOf(other)}; the longer name is used`;
      const remedy = 'nothing to do, if that is what is meant';
      yield finding(entry, 'info', 'service_entry.host_covered', `spec.hosts[${index}]`, message, remedy);
    }
  }
}

/** As the translation: without a time counts as the oldest, then by name. */
function byAge(a: ServiceEntryObject, b: ServiceEntryObject): number {
  const age = (a.metadata.creationTime ?? 0) - (b.metadata.creationTime ?? 0);
  return age === 0 ? (nameOf(a) < nameOf(b) ? -1 : 1) : age;
}
