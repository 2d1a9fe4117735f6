// What telemetry calls a workload: the name of its controller, and the canonical service and revision.
import type { Labels, PodObject } from '../objects/types.ts';
import { LABEL } from './well-known.ts';

/** What the label says; else the controller that a person wrote (a Deployment, not its ReplicaSet), else the pod's own name. */
export function podWorkloadName(pod: PodObject): string {
  const { labels, generateName, controller, name } = pod.metadata;
  const given = labels[LABEL.workloadName];
  if (given !== undefined) return given;
  if (generateName === '' || controller === undefined) return name;
  return ownerName(controller.kind, controller.name, labels);
}

const CRON_JOB_NAME = /^(.+)-\d{8,10}$/;

/** A controller that was itself made by another one carries that one's name and a suffix. */
function ownerName(kind: string, name: string, labels: Labels): string {
  switch (kind) {
    case 'ReplicaSet':
      return (
        withoutHash(name, labels['pod-template-hash']) ??
        withoutHash(name, labels['rollouts-pod-template-hash']) ??
        name
      );
    case 'ReplicationController': {
      const deploymentConfig = labels['deploymentconfig'];
      return deploymentConfig === undefined || deploymentConfig === '' ? name : deploymentConfig;
    }
    case 'Job':
      return CRON_JOB_NAME.exec(name)?.[1] ?? name;
    default:
      return name;
  }
}

function withoutHash(name: string, hash: string | undefined): string | undefined {
  if (hash === undefined || hash === '' || !name.endsWith(`-${hash}`)) return undefined;
  return name.slice(0, -hash.length - 1);
}

const NAME_LABELS = ['service.istio.io/canonical-name', 'app.kubernetes.io/name', 'app'] as const;
const REVISION_LABELS = ['service.istio.io/canonical-revision', 'app.kubernetes.io/version', 'version'] as const;

export function canonicalName(labels: Labels, workloadName: string): string {
  return firstOf(labels, NAME_LABELS) ?? workloadName;
}

export function canonicalRevision(labels: Labels): string {
  return firstOf(labels, REVISION_LABELS) ?? 'latest';
}

function firstOf(labels: Labels, names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = labels[name];
    if (value !== undefined) return value;
  }
  return undefined;
}
