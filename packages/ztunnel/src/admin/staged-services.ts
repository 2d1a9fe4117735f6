// `stagedServices` of config_dump: services that workloads say they belong to and nobody has described yet, by service and
// endpoint. Works in slices.
import type { MeshState } from '@ambit/mesh';
import type { Shape } from './mesh-shapes.ts';
import type { Slicer } from './slicer.ts';

export async function stagedShape(state: MeshState, slicer: Slicer): Promise<Shape> {
  const staged: Record<string, Record<string, Shape>> = {};
  for (const { uid, status, services } of state.workloads()) {
    for (const [key, ports] of services) {
      if (state.serviceByKey(key) !== undefined) continue;
      (staged[key] ??= {})[uid] = { port: Object.fromEntries(ports), status, workloadUid: uid };
    }
    if (slicer.isOver) await slicer.pause();
  }
  return staged;
}
