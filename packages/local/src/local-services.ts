// Services with an address of their own: one for each name in a namespace, over all workloads that name it, for as long as
// one does. Two workloads may add ports; they may not disagree about one.
import { LocalError } from './errors.ts';
import { addressOf, NumberPool } from './net/address-plan.ts';
import type { HostNetwork } from './net/host-network.ts';
import type { LocalService } from './objects.ts';
import type { Workload } from './workload.ts';

type ServiceUser = Pick<Workload, 'namespace' | 'services'>;

export class LocalServices {
  readonly #network: HostNetwork;
  readonly #pool = NumberPool.services();
  /** By `namespace/name`. */
  readonly #numbers = new Map<string, number>();

  constructor(network: HostNetwork) {
    this.#network = network;
  }

  /** @throws local.service_conflict */
  check(wanted: ServiceUser, others: Iterable<ServiceUser>): void {
    const ports = portsByService([...others]);
    for (const { name, port, targetPort } of wanted.services) {
      const known = ports.get(`${wanted.namespace}/${name}`)?.get(port);
      if (known === undefined || known === targetPort) continue;
      throw new LocalError(
        'local.service_conflict',
        `service ${wanted.namespace}/${name} leads port ${port} to ${known} already, not to ${targetPort}`,
        { next: `use --service ${name}:${port}:${known}, or another name` },
      );
    }
  }

  /** The services of these workloads; addresses stay while a service does. @throws local.addresses_used_up */
  of(workloads: readonly ServiceUser[]): LocalService[] {
    const byService = portsByService(workloads);
    for (const [key, number] of this.#numbers) {
      if (byService.has(key)) continue;
      this.#numbers.delete(key);
      this.#pool.release(number);
    }
    return Array.from(byService, ([key, ports]) => {
      const [namespace = '', name = ''] = key.split('/');
      const { ip4, ip6 } = addressOf(this.#network.subnets, this.#numberOf(key));
      return {
        namespace,
        name,
        ips: this.#network.hasIp6 ? [ip4, ip6] : [ip4],
        ports: Array.from(ports, ([port, targetPort]) => ({ port, targetPort })),
      };
    });
  }

  #numberOf(key: string): number {
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const number = this.#pool.take();
    this.#numbers.set(key, number);
    return number;
  }
}

function portsByService(workloads: readonly ServiceUser[]): Map<string, Map<number, number>> {
  const found = new Map<string, Map<number, number>>();
  for (const { namespace, services } of workloads) {
    for (const { name, port, targetPort } of services) {
      const key = `${namespace}/${name}`;
      const ports = found.get(key) ?? new Map<number, number>();
      found.set(key, ports.set(port, targetPort));
    }
  }
  return found;
}
