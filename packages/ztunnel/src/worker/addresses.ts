// The seam between two packages' words for the same thing: the native package reads addresses from the kernel in the
// canonical text that the mesh package's `Ip` stands for (IPv4-mapped converted, IPv6 by RFC 5952), so no parsing is needed.
import type { SocketAddress as NativeAddress } from '@ambit/native';
import type { SocketAddress } from '@ambit/mesh';

export function asMeshAddress(address: NativeAddress): SocketAddress {
  return address as SocketAddress;
}
