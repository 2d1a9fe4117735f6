// Values that several resource types share, checked while they are turned into the mesh's own types. Whatever the bytes,
// the outcome is a value or a WireError that names the field; peers' bytes are quoted and cut, so a message stays short.
import {
  type Cidr,
  type GatewayAddress,
  type GatewayDestination,
  type Ip,
  ipFromBytes,
  isPrefixLength,
} from '@ambit/mesh';
import { WireError } from '../errors.ts';
import type { GatewayAddress as GatewayAddressMessage, Port, PortList } from '../gen/workload_pb.ts';

const LONGEST_QUOTE = 80;
const MAPPED_BYTES = 16;
const MAPPED_PREFIX_BITS = 96;
const U16 = 0xffff;

/** `field`: where in the resource, such as `workload.addresses[1]`. */
export function badResource(field: string, why: string, cause?: unknown): WireError {
  return new WireError('xds.bad_resource', `${field}: ${why}`, cause === undefined ? undefined : { cause });
}

/** Text of a peer for a message: quoted, control characters escaped, cut. */
export function quote(text: string): string {
  return JSON.stringify(text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}...` : text);
}

/** What `table` has for an enum number. @throws xds.bad_resource for a number we do not know */
export function knownEnum<T>(field: string, value: number, table: ReadonlyMap<number, T>): T {
  const found = table.get(value);
  if (found === undefined) throw badResource(field, `unknown enum value ${value}`);
  return found;
}

/** @throws xds.bad_resource unless there are 4 or 16 bytes */
export function address(field: string, bytes: Uint8Array): Ip {
  const ip = ipFromBytes(bytes);
  if (ip === undefined) throw badResource(field, `an address has 4 or 16 bytes, not ${bytes.length}`);
  return ip;
}

/**
 * A block from an address and a prefix length that counts the bits of the address as it was sent; undefined when there is
 * no such block. An IPv4-mapped IPv6 block becomes IPv4 as its address does, so its length loses the 96 mapped bits.
 */
export function blockFromBytes(bytes: Uint8Array, length: number): Cidr | undefined {
  const ip = ipFromBytes(bytes);
  if (ip === undefined) return undefined;
  const isMapped = bytes.length === MAPPED_BYTES && !ip.includes(':');
  const own = isMapped ? length - MAPPED_PREFIX_BITS : length;
  return isPrefixLength(ip, own) ? { ip, length: own } : undefined;
}

/** Upstream keeps the low 16 bits of a port. */
export function port16(port: number): number {
  return port & U16;
}

/** Service port to target port; of equal service ports the last one counts, as upstream. */
export function portMap(ports: readonly Port[]): ReadonlyMap<number, number> {
  return new Map(ports.map(({ servicePort, targetPort }) => [port16(servicePort), port16(targetPort)]));
}

/** What a workload contributes to services. @throws xds.bad_resource for a key that is no `namespace/hostname` */
export function serviceMap(
  field: string,
  services: Readonly<Record<string, PortList>>,
): ReadonlyMap<string, ReadonlyMap<number, number>> {
  const map = new Map<string, ReadonlyMap<number, number>>();
  for (const [key, { ports }] of Object.entries(services)) {
    if (!key.includes('/')) throw badResource(field, `${quote(key)} is no namespace/hostname`);
    map.set(key, portMap(ports));
  }
  return map;
}

/** @throws xds.bad_resource when the reference names nothing */
export function gatewayAddress(field: string, message: GatewayAddressMessage): GatewayAddress {
  return { destination: gatewayDestination(field, message), hboneMtlsPort: port16(message.hboneMtlsPort) };
}

export function optionalGateway(field: string, message: GatewayAddressMessage | undefined): GatewayAddress | undefined {
  return message === undefined ? undefined : gatewayAddress(field, message);
}

function gatewayDestination(field: string, { destination }: GatewayAddressMessage): GatewayDestination {
  switch (destination.case) {
    case 'address': {
      const { network, address: bytes } = destination.value;
      return { kind: 'address', network, ip: address(`${field}.address`, bytes) };
    }
    case 'hostname':
      return {
        kind: 'hostname',
        namespace: destination.value.namespace,
        hostname: destination.value.hostname,
      };
    case undefined:
      throw badResource(`${field}.destination`, 'missing');
  }
}
