// One object to its resources, by kind.
import type { KubeObject } from '../objects/types.ts';
import { policyResources } from '../policies/index.ts';
import { authorizationResource, type Translation } from './draft.ts';
import { translateEndpointSlice } from './endpoint-slice.ts';
import { translatePod } from './pod-workload.ts';
import { translateService } from './service.ts';
import { translateServiceEntry } from './service-entry.ts';
import type { Surroundings } from './surroundings.ts';
import { translateWorkloadEntry } from './workload-entry.ts';
import { waypointAllowPolicy } from './waypoint-policy.ts';

/** Undefined for kinds that make no resource by themselves. */
export function translate(object: KubeObject, around: Surroundings): Translation | undefined {
  switch (object.kind) {
    case 'Pod':
      return translatePod(object, around);
    case 'Service':
      return translateService(object, around);
    case 'EndpointSlice':
      return translateEndpointSlice(object, around);
    case 'WorkloadEntry':
      return translateWorkloadEntry(object, around);
    case 'ServiceEntry':
      return translateServiceEntry(object, around);
    case 'AuthorizationPolicy': {
      const { authorization, diagnostics } = policyResources(object, around.settings);
      return { resources: authorization === undefined ? [] : [authorizationResource(authorization)], diagnostics };
    }
    case 'Gateway': {
      const waypoint = around.waypoint(object.metadata.namespace, object.metadata.name);
      const policy = waypoint && waypointAllowPolicy(waypoint, around.settings);
      return { resources: policy === undefined ? [] : [authorizationResource(policy)], diagnostics: [] };
    }
    default:
      return undefined;
  }
}
