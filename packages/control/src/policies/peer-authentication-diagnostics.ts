// What the author of a PeerAuthentication should know: parts that have no effect, and objects that lose to older ones.
// Only words; the rules themselves are in peer-authentication.ts.
import type { Diagnostic } from '../diagnostic.ts';
import type { PeerAuthenticationObject } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { Findings } from './findings.ts';
import { byAge, hasSelector, isAttachedInVain, isPort } from './peer-authentication.ts';
import { isOurRevision } from './selector.ts';

/** Findings on all PeerAuthentications of the mesh, object by object, oldest first. */
export function peerAuthenticationDiagnostics(
  all: readonly PeerAuthenticationObject[],
  settings: MeshSettings,
): readonly Diagnostic[] {
  const ours = all.filter(object => isOurRevision(object.metadata, settings)).toSorted(byAge);
  const winners = new Map<string, PeerAuthenticationObject>();
  return ours.flatMap(object => {
    const findings = new Findings(object);
    reportPorts(object, settings, findings);
    reportNotSent(object, ours, settings, findings);
    const level = levelOf(object);
    const winner = winners.get(level);
    if (winner === undefined) winners.set(level, object);
    else {
      const message = `${winner.metadata.namespace}/${winner.metadata.name} is older and for the same workloads, so this object has no effect`;
      const remedy = 'remove one of the two; the oldest wins';
      findings.add('error', 'peer_authentication.shadowed', 'metadata.name', message, remedy);
    }
    return findings.list;
  });
}

function reportPorts(object: PeerAuthenticationObject, settings: MeshSettings, findings: Findings): void {
  const entries = Object.entries(object.spec.portLevelMtls);
  const isRoot = object.metadata.namespace === settings.rootNamespace;
  if (hasSelector(object) && isRoot) {
    const message = 'a selector in the root namespace selects nothing';
    const remedy = 'move the object to the namespace of the workloads';
    findings.add('error', 'peer_authentication.root_selector', 'spec.selector', message, remedy);
    return;
  }
  if (entries.length === 0) return;
  if (!hasSelector(object)) {
    const message = 'modes of ports have no effect without a selector';
    const remedy = 'add spec.selector.matchLabels, or remove portLevelMtls';
    findings.add('error', 'peer_authentication.ports_without_selector', 'spec.portLevelMtls', message, remedy);
    return;
  }
  for (const [port] of entries) {
    if (isPort(port)) continue;
    const path = `spec.portLevelMtls["${port}"]`;
    findings.add(
      'error',
      'peer_authentication.bad_port',
      path,
      `"${port}" is no port number`,
      'write a container port',
    );
  }
  const modes = entries.filter(([port]) => isPort(port)).map(([, mode]) => mode);
  if (object.spec.mtls === 'UNSET' && modes.includes('DISABLE') && !modes.includes('PERMISSIVE')) {
    const message = 'DISABLE on a port does not exempt it from an inherited STRICT';
    const remedy = 'use PERMISSIVE, which is the same to a ztunnel';
    findings.add('warning', 'peer_authentication.port_disable', 'spec.portLevelMtls', message, remedy);
  }
}

/** Objects of one level compete: the same namespace and the same labels (or none). */
function levelOf({ metadata, spec }: PeerAuthenticationObject): string {
  const labels = Object.entries(spec.selector ?? {}).toSorted(([a], [b]) => (a < b ? -1 : Number(a > b)));
  return JSON.stringify([metadata.namespace, labels]);
}

function reportNotSent(
  object: PeerAuthenticationObject,
  all: readonly PeerAuthenticationObject[],
  { rootNamespace }: MeshSettings,
  findings: Findings,
): void {
  if (!isAttachedInVain(object, all, rootNamespace)) return;
  const message =
    "Istio attaches a policy for these ports that it never sends, while the mesh is STRICT and the namespace has no mode of its own: Istio's ztunnel takes plain text on all ports, Ambit's on none";
  const remedy = 'give the namespace a PeerAuthentication with a mode; then the ports are sent';
  findings.add('warning', 'peer_authentication.ports_not_sent', 'spec.portLevelMtls', message, remedy);
}
