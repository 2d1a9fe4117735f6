// The demo's shop as values: who is where with which address, and who is expected to talk to whom. `examples/shop` says the
// same as Kubernetes objects, which is what the control plane reads; a test compares the two. Placed so that everything
// inside the mesh crosses from node to node, and the one plaintext caller from outside the mesh stays on its own node.
import { type DualAddress, podAddress, serviceAddress } from '../address-plan.ts';
import type { Expectation } from './verdict.ts';

export const SHOP_NODES = ['n1', 'n2'] as const;

/** A pod; its service account has its name inside the mesh. */
export interface PlannedPod extends DualAddress {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly node: (typeof SHOP_NODES)[number];
  readonly enrolled: boolean;
}

export interface PlannedService extends DualAddress {
  readonly name: string;
  readonly namespace: string;
  readonly port: number;
  readonly targetPort: number;
}

/** Numbers of a node's pods are given in the order in which they are made. */
export const SHOP_PODS = {
  web: member('web', 'n1', 1),
  db: member('db', 'n1', 2),
  stranger: member('stranger', 'n1', 3),
  outside: {
    name: 'outside',
    namespace: 'plain',
    serviceAccount: 'default',
    node: 'n1',
    enrolled: false,
    ...podAddress(1, 4),
  },
  cart: member('cart', 'n2', 1),
} as const satisfies Readonly<Record<string, PlannedPod>>;

export const SHOP_SERVICES = {
  web: service('web', 80, 8080, 1),
  cart: service('cart', 80, 8080, 2),
  db: service('db', 6379, 6379, 3),
} as const;

/** A pair that talks, as the programs dial it. */
export interface PlannedEdge {
  /** `namespace/name`. */
  readonly source: string;
  readonly destination: string;
  /** What the source dials: `ip:port`. */
  readonly dials: string;
  /** What the objects of `examples/shop` make of it. */
  readonly want: Expectation;
}

export const SHOP_EDGES: readonly PlannedEdge[] = [
  { source: 'shop/web', destination: 'shop/cart', dials: `${SHOP_SERVICES.cart.ip4}:80`, want: 'encrypted' },
  { source: 'shop/cart', destination: 'shop/db', dials: `${SHOP_SERVICES.db.ip4}:6379`, want: 'encrypted' },
  { source: 'shop/stranger', destination: 'shop/cart', dials: `${SHOP_SERVICES.cart.ip4}:80`, want: 'denied' },
  { source: 'plain/outside', destination: 'shop/web', dials: `${SHOP_PODS.web.ip4}:8080`, want: 'plaintext' },
];

function member(name: string, node: 'n1' | 'n2', number: number): PlannedPod {
  const addresses = podAddress(SHOP_NODES.indexOf(node) + 1, number);
  return { name, namespace: 'shop', serviceAccount: name, node, enrolled: true, ...addresses };
}

function service(name: string, port: number, targetPort: number, number: number): PlannedService {
  return { name, namespace: 'shop', port, targetPort, ...serviceAddress(number) };
}
