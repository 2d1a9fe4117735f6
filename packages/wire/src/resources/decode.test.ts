import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { create, type MessageInitShape, toBinary, type UnknownEnum } from '@bufbuild/protobuf';
import { policyKey, serviceKey } from '@ambit/mesh';
import fc from 'fast-check';
import { WireError } from '../errors.ts';
import { AuthorizationSchema } from '../gen/authorization_pb.ts';
import { AddressSchema } from '../gen/workload_pb.ts';
import { decodeAddress, meshAddress } from './decode-address.ts';
import { decodeAuthorization, meshPolicy } from './decode-authorization.ts';
import {
  addressFromJson,
  addressToJson,
  authorizationFromJson,
  authorizationToJson,
  decodeAddressMessage,
  decodeAuthorizationMessage,
  encodeAddress,
  encodeAuthorization,
  type Json,
} from './encoding.ts';

interface Recorded {
  readonly name: string;
  readonly resource: Json;
}

/** What istiod sent for one input: see golden/README.md of the repository's recordings. */
function recorded(file: string): readonly Recorded[] {
  // The file is ours; a wrong shape fails the tests that read it.
  return JSON.parse(readFileSync(new URL(`./golden/${file}`, import.meta.url), 'utf8')) as Recorded[];
}

type WorkloadInit = NonNullable<Extract<MessageInitShape<typeof AddressSchema>['type'], { case: 'workload' }>>['value'];
type ServiceInit = NonNullable<Extract<MessageInitShape<typeof AddressSchema>['type'], { case: 'service' }>>['value'];

const workload = (value: WorkloadInit) => meshAddress(create(AddressSchema, { type: { case: 'workload', value } }));
const service = (value: ServiceInit) => meshAddress(create(AddressSchema, { type: { case: 'service', value } }));
const policy = (init: MessageInitShape<typeof AuthorizationSchema>) => meshPolicy(create(AuthorizationSchema, init));

/** A number that an enum of ours does not have, as a later schema may. */
const later = (value: number) => value as UnknownEnum;

function refuses(run: () => unknown, field: string): void {
  assert.throws(run, error => {
    assert.ok(error instanceof WireError);
    assert.equal(error.code, 'xds.bad_resource');
    assert.ok(error.message.startsWith(`${field}:`), error.message);
    return true;
  });
}

describe('recorded resources of istiod', () => {
  test('addresses survive JSON, message, bytes and back, and decode under their own name', () => {
    const all = recorded('addresses.json');
    assert.ok(all.length >= 15);
    for (const { name, resource } of all) {
      const message = addressFromJson(resource);
      const bytes = encodeAddress(message);
      assert.deepEqual(addressToJson(decodeAddressMessage(bytes)), resource);
      const owner = decodeAddress(bytes);
      assert.equal(owner.kind === 'workload' ? owner.workload.uid : serviceKey(owner.service), name);
    }
  });

  test('a recorded workload has the wire defaults and its own values', () => {
    const found = recorded('addresses.json').find(({ name }) => name === 'Kubernetes//Pod/shop/cart-1');
    assert.ok(found);
    const owner = meshAddress(addressFromJson(found.resource));
    assert.ok(owner.kind === 'workload');
    assert.equal(owner.workload.trustDomain, 'cluster.local');
    assert.deepEqual(owner.workload.workloadIps, ['10.1.0.11']);
    assert.equal(owner.workload.protocol, 'HBONE');
    assert.equal(owner.workload.capacity, 1);
    assert.equal(owner.workload.services.get('shop/cart.shop.svc.cluster.local')?.get(80), 8080);
  });

  test('policies survive JSON, message, bytes and back, and nothing of them is dropped', () => {
    const all = recorded('authorizations.json');
    assert.ok(all.length >= 15);
    for (const { name, resource } of all) {
      const bytes = encodeAuthorization(authorizationFromJson(resource));
      assert.deepEqual(authorizationToJson(decodeAuthorizationMessage(bytes)), resource);
      const { policy: decoded, dropped } = decodeAuthorization(bytes);
      assert.equal(policyKey(decoded), name);
      assert.deepEqual(dropped, []);
    }
  });
});

describe('addresses', () => {
  test('an empty workload gets the wire defaults', () => {
    const owner = workload({});
    assert.ok(owner.kind === 'workload');
    const { serviceAccount, trustDomain, clusterId, protocol, capacity, workloadType, status } = owner.workload;
    assert.deepEqual(
      { serviceAccount, trustDomain, clusterId, protocol, capacity, workloadType, status },
      {
        serviceAccount: 'default',
        trustDomain: 'cluster.local',
        clusterId: 'Kubernetes',
        protocol: 'TCP',
        capacity: 1,
        workloadType: 'deployment',
        status: 'Healthy',
      },
    );
  });

  test('an explicit capacity of 0 stays 0', () => {
    const owner = workload({ capacity: 0 });
    assert.ok(owner.kind === 'workload');
    assert.equal(owner.workload.capacity, 0);
  });

  test('what could misroute is refused and named', () => {
    refuses(() => meshAddress(create(AddressSchema, {})), 'address');
    refuses(() => workload({ addresses: [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(1)] }), 'workload.addresses[1]');
    refuses(() => workload({ tunnelProtocol: 2 }), 'workload.tunnel_protocol');
    refuses(() => workload({ tunnelProtocol: later(9) }), 'workload.tunnel_protocol');
    refuses(() => workload({ networkMode: later(7) }), 'workload.network_mode');
    refuses(() => workload({ status: later(7) }), 'workload.status');
    refuses(() => workload({ services: { nonsense: {} } }), 'workload.services');
    refuses(() => workload({ waypoint: {} }), 'workload.waypoint.destination');
    refuses(() => workload({ networkGateway: {} }), 'workload.network_gateway.destination');
    refuses(() => workload({ applicationTunnel: { protocol: later(5) } }), 'workload.application_tunnel.protocol');
    refuses(() => service({ weightedWaypoints: [{ weight: 1 }] }), 'service.weighted_waypoints[0].destination');
    refuses(
      () => service({ loadBalancing: { routingPreference: [1, 0] } }),
      'service.load_balancing.routing_preference[1]',
    );
    refuses(() => service({ loadBalancing: { mode: later(9) } }), 'service.load_balancing.mode');
    refuses(() => service({ loadBalancing: { healthPolicy: later(9) } }), 'service.load_balancing.health_policy');
    refuses(() => service({ ipFamilies: later(9) }), 'service.ip_families');
    refuses(
      () => service({ addresses: [{ address: Uint8Array.of(10, 0, 0, 1), length: 33 }] }),
      'service.addresses[0].length',
    );
  });

  test('workload type and visibility are tolerant', () => {
    const odd = workload({ workloadType: later(77) });
    assert.ok(odd.kind === 'workload');
    assert.equal(odd.workload.workloadType, 'deployment');
    const hidden = service({ visibility: later(77) });
    assert.ok(hidden.kind === 'service');
    assert.equal(hidden.service.visibility, 'Public');
  });

  test('a full prefix length is an address, a shorter one a block', () => {
    const address = Uint8Array.of(10, 0, 0, 1);
    const owner = service({
      addresses: [{ address }, { address, length: 32 }, { address, length: 24, network: 'n' }],
    });
    assert.ok(owner.kind === 'service');
    assert.deepEqual(owner.service.vips, [
      { network: '', ip: '10.0.0.1' },
      { network: '', ip: '10.0.0.1' },
    ]);
    assert.deepEqual(owner.service.cidrVips, [{ network: 'n', cidr: { ip: '10.0.0.1', length: 24 } }]);
  });

  test('the prefix length of an IPv4-mapped address loses the mapped bits', () => {
    const address = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0);
    const owner = service({ addresses: [{ address, length: 104 }] });
    assert.ok(owner.kind === 'service');
    assert.deepEqual(owner.service.cidrVips, [{ network: '', cidr: { ip: '10.0.0.0', length: 8 } }]);
    refuses(() => service({ addresses: [{ address, length: 95 }] }), 'service.addresses[0].length');
  });
});

describe('policies', () => {
  test('an unknown scope or action refuses the policy', () => {
    refuses(() => policy({ scope: later(3) }), 'authorization.scope');
    refuses(() => policy({ action: later(2) }), 'authorization.action');
  });

  test('matchers that make no sense stay as invalid values and are reported where they stood', () => {
    const { policy: decoded, dropped } = policy({
      groups: [
        {
          rules: [
            {
              matches: [
                {
                  namespaces: [{}],
                  sourceIps: [
                    { address: Uint8Array.of(1, 2), length: 8 },
                    { address: Uint8Array.of(1, 2, 3, 4), length: 33 },
                    { address: Uint8Array.of(1, 2, 3, 4), length: 24 },
                  ],
                  destinationPorts: [80, 65_616],
                },
              ],
            },
          ],
        },
      ],
    });
    const match = decoded.rules[0]?.[0]?.[0];
    assert.ok(match);
    assert.equal(match.namespaces.length, 1);
    assert.deepEqual(
      match.sourceIps.map(block => ('kind' in block ? block.kind : block.length)),
      ['invalid', 'invalid', 24],
    );
    assert.deepEqual(match.destinationPorts, [80, 65_616]);
    assert.deepEqual(
      dropped.map(({ field }) => field),
      [
        'groups[0].rules[0].matches[0].namespaces[0]',
        'groups[0].rules[0].matches[0].source_ips[0]',
        'groups[0].rules[0].matches[0].source_ips[1]',
        'groups[0].rules[0].matches[0].destination_ports[1]',
      ],
    );
  });

  test('a decoded policy survives structured cloning unchanged', () => {
    const { policy: decoded } = policy({
      groups: [
        {
          rules: [
            {
              matches: [
                {
                  serviceAccounts: [{ namespace: 'a', serviceAccount: 'b' }],
                  principals: [{ matchType: { case: 'presence', value: {} } }],
                },
              ],
            },
          ],
        },
      ],
    });
    assert.deepEqual(structuredClone(decoded), decoded);
    assert.deepEqual(decoded.rules[0]?.[0]?.[0]?.serviceAccounts, [{ namespace: 'a', serviceAccount: 'b' }]);
  });
});

describe('any bytes', () => {
  const attempt = (decode: (bytes: Uint8Array) => unknown, bytes: Uint8Array): void => {
    try {
      decode(bytes);
    } catch (error) {
      assert.ok(error instanceof WireError, String(error));
      assert.equal(error.code, 'xds.bad_resource');
    }
  };

  test('random bytes give a value or a WireError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
        attempt(decodeAddress, bytes);
        attempt(decodeAuthorization, bytes);
      }),
      { seed: 41, numRuns: 2000 },
    );
  });

  test('recorded resources with flipped bytes give a value or a WireError', () => {
    const addresses = recorded('addresses.json').map(({ resource }) => encodeAddress(addressFromJson(resource)));
    const policies = recorded('authorizations.json').map(({ resource }) =>
      toBinary(AuthorizationSchema, authorizationFromJson(resource)),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...addresses, ...policies),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        (original, flips) => {
          const bytes = Uint8Array.from(original);
          for (const [at, value] of flips) bytes[at % bytes.length] = value;
          attempt(decodeAddress, bytes);
          attempt(decodeAuthorization, bytes);
        },
      ),
      { seed: 42, numRuns: 2000 },
    );
  });
});
