// Asks the control plane for a destination that the mesh does not know, and for the gateways it leads to, before a route is
// decided (`XDS_ON_DEMAND`). Bounded in time and number by the xDS client. Fails closed: without an answer nobody can say
// whether a destination is in the mesh, so the connection must not pass in plain text.
import type { GatewayAddress, Ip, MeshView } from '@ambit/mesh';
import type { DemandResult } from '@ambit/wire/grpc';

export interface LookupDeps {
  readonly view: MeshView;
  /** Asks for the name of an Address resource. */
  readonly demand: (name: string) => Promise<DemandResult>;
}

export class Lookup {
  readonly #deps: LookupDeps;
  readonly #network: string;

  constructor(deps: LookupDeps, options: { readonly network: string }) {
    this.#deps = deps;
    this.#network = options.network;
  }

  /** Undefined when all is known already; else whether the mesh now says what there is. */
  prepare(ip: Ip): Promise<boolean> | undefined {
    const { view } = this.#deps;
    const owner = view.findAddress(this.#network, ip, undefined);
    if (owner !== undefined && this.#missingGateways(ip).length === 0) return undefined;
    return this.#ask(ip, owner === undefined);
  }

  async #ask(ip: Ip, isUnknown: boolean): Promise<boolean> {
    if (isUnknown && (await this.#deps.demand(`${this.#network}/${ip}`)) !== 'answered') return false;
    const answers = await Promise.all(this.#missingGateways(ip).map(name => this.#deps.demand(name)));
    return answers.every(answer => answer === 'answered');
  }

  /** Names of the gateways that routes to `ip` may need and that are not known. */
  #missingGateways(ip: Ip): readonly string[] {
    const owner = this.#deps.view.findAddress(this.#network, ip, undefined);
    if (owner === undefined) return [];
    const gateways: readonly (GatewayAddress | undefined)[] =
      owner.kind === 'workload'
        ? [owner.workload.waypoint, owner.workload.networkGateway]
        : [owner.service.waypoint, ...owner.service.weightedWaypoints.map(({ destination }) => destination)];
    return gateways.flatMap(gateway => {
      const name = gateway === undefined ? undefined : this.#missing(gateway);
      return name === undefined ? [] : [name];
    });
  }

  #missing({ destination }: GatewayAddress): string | undefined {
    const { view } = this.#deps;
    if (destination.kind === 'address') {
      const { network, ip } = destination;
      return view.findAddress(network, ip, undefined) === undefined ? `${network}/${ip}` : undefined;
    }
    const { namespace, hostname } = destination;
    const isKnown =
      view.service(namespace, hostname) !== undefined || view.workloadByHostname(namespace, hostname) !== undefined;
    return isKnown ? undefined : `${namespace}/${hostname}`;
  }
}
