// A container as a pod: what its labels ask for, from the engine's answer to "inspect" (Docker Engine API, which Podman
// answers too). Pure. A container joins only by its label; one without a network of its own cannot.
import { isIP } from 'node:net';
import type { AgentPod } from '@ambit/cni';
import { MODE_LABEL } from '../objects.ts';

export type ContainerAnswer =
  | { readonly kind: 'pod'; readonly pod: AgentPod; readonly createdAt: string }
  /** Asks for nothing, or has ended. */
  | { readonly kind: 'none' }
  | { readonly kind: 'refused'; readonly why: string };

const OWN_MODE_LABEL = 'ambit.mesh/dataplane';
const NAMESPACE_LABEL = 'ambit.mesh/namespace';
const ACCOUNT_LABEL = 'ambit.mesh/service-account';
const DNS_LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** Kubernetes' syntax; other labels of containers are not for policies. */
const LABEL_KEY = /^(?:[a-z0-9][a-z0-9.-]{0,252}\/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?$/;
const MAX_LABELS = 100;

/** @param json answer of `GET /containers/ID/json` */
export function containerPod(json: unknown): ContainerAnswer {
  const container = fieldsOf(json);
  const state = fieldsOf(container['State']);
  const labels = textsOf(fieldsOf(container['Config'])['Labels']);
  if (labels[OWN_MODE_LABEL] !== 'ambient' && labels[MODE_LABEL] !== 'ambient') return { kind: 'none' };
  const { Id: id, Created: createdAt } = container;
  const pid = state['Pid'];
  if (state['Running'] !== true || typeof pid !== 'number' || pid <= 0) return { kind: 'none' };
  if (typeof id !== 'string' || !/^[0-9a-f]{12,64}$/.test(id)) return { kind: 'none' };
  const startedAt = Date.parse(String(state['StartedAt']));
  if (!Number.isFinite(startedAt)) return { kind: 'none' };
  const name = dnsName(String(container['Name'] ?? ''), id);
  const mode = String(fieldsOf(container['HostConfig'])['NetworkMode'] ?? '');
  if (mode === 'host') return refused(name, "it uses the host's own network");
  if (mode.startsWith('container:')) return refused(name, "it uses another container's network");
  const ips = ipsOf(fieldsOf(container['NetworkSettings']));
  if (ips.length === 0) return refused(name, 'it has no address');
  const namespace = labels[NAMESPACE_LABEL] ?? 'default';
  const serviceAccount = labels[ACCOUNT_LABEL] ?? 'default';
  for (const [label, value] of [
    [NAMESPACE_LABEL, namespace],
    [ACCOUNT_LABEL, serviceAccount],
  ] as const) {
    if (!DNS_LABEL.test(value))
      return refused(name, `its label ${label} is no name: ${JSON.stringify(value.slice(0, 70))}`);
  }
  const pod: AgentPod = {
    // Started again it is another pod, with another network: a UID is never used twice.
    uid: `container-${id}-${startedAt}`,
    name,
    namespace,
    serviceAccount,
    labels: { app: name, ...podLabelsOf(labels), [MODE_LABEL]: 'ambient' },
    annotations: {},
    hostNetwork: false,
    ips,
    phase: 'Running',
    netnsPath: `/proc/${pid}/ns/net`,
  };
  return { kind: 'pod', pod, createdAt: typeof createdAt === 'string' ? createdAt : '' };
}

function refused(name: string, why: string): ContainerAnswer {
  return { kind: 'refused', why: `container ${name} cannot join: ${why}` };
}

/** Engines allow names that DNS does not. */
function dnsName(name: string, id: string): string {
  const clean = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replaceAll(/^-+/g, '')
    .slice(0, 63)
    .replaceAll(/-+$/g, '');
  return clean === '' ? id.slice(0, 12) : clean;
}

/** In the order of the engine's networks, each once. */
function ipsOf(settings: Record<string, unknown>): readonly string[] {
  const networks = [settings, ...Object.values(fieldsOf(settings['Networks'])).map(fieldsOf)];
  const found = networks.flatMap(network => [network['IPAddress'], network['GlobalIPv6Address']]);
  return [...new Set(found.filter(ip => typeof ip === 'string' && isIP(ip) !== 0))] as string[];
}

function podLabelsOf(labels: Readonly<Record<string, string>>): Record<string, string> {
  const usable = Object.entries(labels).filter(([key, value]) => LABEL_KEY.test(key) && LABEL_VALUE.test(value));
  return Object.fromEntries(usable.slice(0, MAX_LABELS));
}

function textsOf(json: unknown): Record<string, string> {
  const entries = Object.entries(fieldsOf(json)).flatMap(([key, value]) =>
    typeof value === 'string' ? [[key, value] as const] : [],
  );
  return Object.fromEntries(entries);
}

function fieldsOf(json: unknown): Record<string, unknown> {
  return typeof json === 'object' && json !== null && !Array.isArray(json) ? { ...json } : {};
}
