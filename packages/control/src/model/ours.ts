// Which objects count: Istio's own configuration may be meant for another revision of the control plane.
import type { KubeObject } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { LABEL } from './well-known.ts';

/** Pods, Services and other objects of Kubernetes are everybody's; policies say themselves that they are for another. */
export function isOurs(object: KubeObject, settings: MeshSettings): boolean {
  if (object.kind !== 'WorkloadEntry' && object.kind !== 'ServiceEntry') return true;
  const revision = object.metadata.labels[LABEL.revision];
  return revision === undefined || settings.revision === '' || revision === settings.revision;
}
