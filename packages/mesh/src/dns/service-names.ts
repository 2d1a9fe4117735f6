// What answering names needs of the mesh beyond the view of connections: look-ups by name, each one access of a map.
import type { Service } from '../service.ts';
import type { ServiceEndpoint } from '../view.ts';

/** All names are in lower case without a dot at the end. Visibility is the caller's to respect. */
export interface ServiceNames {
  /** Services whose host name is this one. */
  named(name: string): readonly Service[];
  /** Services of host name `*.suffix`. */
  covering(suffix: string): readonly Service[];
  readonly hasWildcards: boolean;
  /** Endpoints of a service that are themselves called so, by pod or host name, healthy or not. */
  endpointsNamed(service: Service, name: string): readonly ServiceEndpoint[];
}
