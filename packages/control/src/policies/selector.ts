// Which objects are ours and which workloads a selector means. Labels only: namespaces are the caller's business, because
// a policy of the root namespace reaches further than one of any other.
import type { Labels, Metadata, WorkloadSelector } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';

const REVISION_LABEL = 'istio.io/rev';

/**
 * Whether every label of the selector is on the workload. An empty selector selects every workload; no selector selects
 * none by name: such a policy applies by its scope and is not listed on workloads.
 */
export function selectsWorkload(selector: WorkloadSelector, labels: Labels): boolean {
  if (selector === undefined) return false;
  for (const [key, value] of Object.entries(selector)) if (labels[key] !== value) return false;
  return true;
}

/** Whether the object is for this control plane: without the label it is for every one; one without a name takes all. */
export function isOurRevision(metadata: Metadata, settings: MeshSettings): boolean {
  const revision = metadata.labels[REVISION_LABEL];
  return revision === undefined || settings.revision === '' || revision === settings.revision;
}
