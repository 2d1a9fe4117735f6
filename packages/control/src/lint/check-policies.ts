// Policies that are well formed and do not do what their author thinks: they select nobody, hold for nobody in the mesh, ask
// for the port of a service where a ztunnel sees the port of a pod, or differ in nothing from another mode.
import type { Diagnostic } from '../diagnostic.ts';
import { matches } from '../model/selector-index.ts';
import type {
  AuthorizationPolicyObject,
  PeerAuthenticationObject,
  ServiceObject,
  WorkloadSelector,
} from '../objects/types.ts';
import { checkSources } from './check-sources.ts';
import { finding, nameOf } from './check.ts';
import { DATAPLANE_MODE, type Known, labelsOf, type WorkloadObject } from './known.ts';

type AnyPolicy = AuthorizationPolicyObject | PeerAuthenticationObject;

export function* checkPolicies(known: Known): Iterable<Diagnostic> {
  for (const policy of known.all('AuthorizationPolicy')) {
    yield* checkSources(policy, known);
    if (policy.spec.targetRefs.length > 0) continue;
    yield* checkReach(policy, known);
    yield* checkPorts(policy, known);
  }
  for (const policy of known.all('PeerAuthentication')) {
    yield* checkReach(policy, known);
    yield* checkModes(policy);
  }
}

/** Selects nobody at all, or nobody who would enforce it. */
function* checkReach(policy: AnyPolicy, known: Known): Iterable<Diagnostic> {
  const { namespace } = policy.metadata;
  const { selector } = policy.spec;
  const isRoot = namespace === known.settings.rootNamespace;
  // A PeerAuthentication of the root namespace with a selector is told by the translation.
  if (!known.knowsWorkloads || (isRoot && policy.kind === 'PeerAuthentication')) return;
  const chosen = selected(policy, known);
  if (chosen.some(workload => known.isMember(workload))) return;
  if (chosen.length === 0 && isNarrow(selector)) {
    const where = isRoot ? 'the mesh' : `namespace ${namespace}`;
    const message = `the selector matches no workload of ${where}`;
    const remedy = 'compare it with the labels of the pods';
    yield finding(policy, 'warning', 'policy.selects_nothing', 'spec.selector', message, remedy);
    return;
  }
  const isAmbient = known.namespace(namespace)?.metadata.labels[DATAPLANE_MODE] === 'ambient';
  if (isRoot || (chosen.length === 0 && isAmbient)) return;
  const [first] = chosen;
  const who =
    first === undefined
      ? `namespace ${namespace} has no workload in the mesh`
      : chosen.length === 1
        ? `${nameOf(first)}, which it is for, is not in the mesh`
        : `none of the ${chosen.length} workloads that it is for is in the mesh`;
  const message = `${who}, so no ztunnel enforces this`;
  const remedy = `take them into the mesh (${DATAPLANE_MODE}=ambient), or select others`;
  yield finding(policy, 'warning', 'policy.no_members', isNarrow(selector) ? 'spec.selector' : '', message, remedy);
}

function isNarrow(selector: WorkloadSelector): boolean {
  return selector !== undefined && Object.keys(selector).length > 0;
}

function selected(policy: AnyPolicy, known: Known): readonly WorkloadObject[] {
  const { namespace } = policy.metadata;
  return known.select(namespace === known.settings.rootNamespace ? undefined : namespace, policy.spec.selector ?? {});
}

/** The port of a service where the port of its pods is meant. */
function* checkPorts(policy: AuthorizationPolicyObject, known: Known): Iterable<Diagnostic> {
  const written = portsOf(policy);
  if (written.length === 0) return;
  const chosen = selected(policy, known);
  const declared = new Set(chosen.flatMap(portNumbers));
  const suspects = written.filter(({ port }) => !declared.has(port));
  if (suspects.length === 0) return;
  const namespaces = new Set(chosen.map(({ metadata }) => metadata.namespace));
  const services = [...namespaces].flatMap(namespace => known.services(namespace));
  for (const { port, path } of suspects) {
    for (const service of services) {
      const target = targetOf(service, port, chosen);
      if (target === undefined || target === port) continue;
      const message = `${port} is the port of Service ${nameOf(service)}; a ztunnel sees the port of the pod, which is ${target}`;
      yield finding(policy, 'warning', 'policy.service_port', path, message, `write "${target}"`);
      break;
    }
  }
}

interface WrittenPort {
  readonly port: number;
  readonly path: string;
}

function portsOf({ spec }: AuthorizationPolicyObject): readonly WrittenPort[] {
  const list = (texts: readonly string[], path: string): readonly WrittenPort[] =>
    texts.map((text, index) => ({ port: Number(text), path: `${path}[${index}]` }));
  return spec.rules.flatMap((rule, r) => [
    ...rule.to.flatMap(({ ports, notPorts }, t) => {
      const path = `spec.rules[${r}].to[${t}].operation`;
      return [...list(ports, `${path}.ports`), ...list(notPorts, `${path}.notPorts`)];
    }),
    ...rule.when.flatMap(({ key, values, notValues }, w) => {
      if (key !== 'destination.port') return [];
      const path = `spec.rules[${r}].when[${w}]`;
      return [...list(values, `${path}.values`), ...list(notValues, `${path}.notValues`)];
    }),
  ]);
}

function portNumbers(workload: WorkloadObject): readonly number[] {
  return workload.kind === 'Pod'
    ? workload.spec.ports.map(({ containerPort }) => containerPort)
    : Object.values(workload.spec.ports);
}

/** Which port of the chosen workloads the service's port leads to; undefined: it is no port of theirs. */
function targetOf(
  { metadata, spec }: ServiceObject,
  port: number,
  chosen: readonly WorkloadObject[],
): number | undefined {
  const found = spec.ports.find(each => each.port === port && each.protocol === 'TCP');
  if (found === undefined || Object.keys(spec.selector).length === 0) return undefined;
  const { namespace } = metadata;
  const member = chosen.find(
    workload => workload.metadata.namespace === namespace && matches(spec.selector, labelsOf(workload)),
  );
  if (member === undefined) return undefined;
  const { targetPort } = found;
  if (typeof targetPort !== 'string') return targetPort ?? port;
  return member.kind === 'Pod'
    ? member.spec.ports.find(({ name }) => name === targetPort)?.containerPort
    : member.spec.ports[targetPort];
}

function* checkModes(policy: PeerAuthenticationObject): Iterable<Diagnostic> {
  const message = 'DISABLE is PERMISSIVE to a ztunnel: callers that encrypt are still served encrypted';
  const remedy = 'write PERMISSIVE, or take the workload out of the mesh';
  const { mtls, portLevelMtls } = policy.spec;
  const at = (path: string): Diagnostic =>
    finding(policy, 'warning', 'peer_authentication.disable', path, message, remedy);
  if (mtls === 'DISABLE') yield at('spec.mtls.mode');
  for (const [port, mode] of Object.entries(portLevelMtls)) {
    if (mode === 'DISABLE') yield at(`spec.portLevelMtls["${port}"].mode`);
  }
}
