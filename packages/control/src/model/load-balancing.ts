// How a service wants its endpoints chosen: internalTrafficPolicy, then trafficDistribution, then annotations.
import { LoadBalancing_HealthPolicy, LoadBalancing_Mode, LoadBalancing_Scope as Scope } from '@ambit/wire/resources';
import type { Labels, ServiceEntryObject, ServiceObject } from '../objects/types.ts';
import { ANNOTATION } from './well-known.ts';

export interface LoadBalancingParts {
  readonly routingPreference?: Scope[];
  readonly mode?: LoadBalancing_Mode;
  readonly healthPolicy?: LoadBalancing_HealthPolicy;
}

type Distribution = 'zone' | 'node' | 'any';

export function loadBalancingOfService(
  { metadata, spec }: ServiceObject,
  namespaceAnnotations: Labels,
): LoadBalancingParts | undefined {
  const preference =
    spec.internalTrafficPolicy === 'Local'
      ? { routingPreference: [Scope.NODE], mode: LoadBalancing_Mode.STRICT }
      : preferenceFor(
          distributionOfSpec(spec.trafficDistribution) ??
            distributionOfAnnotations(metadata.annotations, namespaceAnnotations),
        );
  if (!spec.publishNotReadyAddresses) return preference;
  return { ...preference, healthPolicy: LoadBalancing_HealthPolicy.ALLOW_ALL };
}

export function loadBalancingOfServiceEntry(
  { metadata, spec }: ServiceEntryObject,
  namespaceAnnotations: Labels,
): LoadBalancingParts | undefined {
  // Without resolution there is nothing to balance: traffic goes where the client addressed it.
  if (spec.resolution === 'NONE') {
    return { mode: LoadBalancing_Mode.PASSTHROUGH, healthPolicy: LoadBalancing_HealthPolicy.ALLOW_ALL };
  }
  return preferenceFor(distributionOfAnnotations(metadata.annotations, namespaceAnnotations));
}

function distributionOfSpec(value: string): Distribution | undefined {
  if (value === 'PreferSameZone' || value === 'PreferClose') return 'zone';
  return value === 'PreferSameNode' ? 'node' : undefined;
}

/** The service's annotation, even a senseless one, hides the namespace's; an empty one does not. */
function distributionOfAnnotations(own: Labels, namespace: Labels): Distribution {
  const value = own[ANNOTATION.trafficDistribution] || namespace[ANNOTATION.trafficDistribution];
  switch (value?.toLowerCase()) {
    case 'prefersamezone':
    case 'preferclose':
      return 'zone';
    case 'prefersamenode':
      return 'node';
    default:
      return 'any';
  }
}

function preferenceFor(distribution: Distribution): LoadBalancingParts | undefined {
  switch (distribution) {
    case 'zone':
      return { routingPreference: [Scope.NETWORK, Scope.REGION, Scope.ZONE], mode: LoadBalancing_Mode.FAILOVER };
    case 'node':
      return {
        routingPreference: [Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE],
        mode: LoadBalancing_Mode.FAILOVER,
      };
    case 'any':
      return undefined;
  }
}
