// PROXY protocol version 2 header (haproxy.org, proxy-protocol.txt section 2.2) for applications behind an application tunnel.
// The identity of the peer travels in TLV 0xD0, as upstream's does. When the families of the two addresses differ the header
// is in IPv6 with the IPv4 one mapped, so that the application still learns the source (upstream sends UNSPEC).
import { ipFamily, ipToBytes, type SocketAddress } from '@ambit/mesh';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const VERSION_2_PROXY = 0x21;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;
const TLV_PEER_IDENTITY = 0xd0;
const MAPPED_PREFIX = Buffer.from('00000000000000000000ffff', 'hex');

export function writeProxyHeader(source: SocketAddress, target: SocketAddress, identity: string | undefined): Buffer {
  const isIpv4 = ipFamily(source.ip) === 'ipv4' && ipFamily(target.ip) === 'ipv4';
  const addresses = isIpv4 ? [ipToBytes(source.ip), ipToBytes(target.ip)] : [mapped(source), mapped(target)];
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(target.port, 2);
  const body = Buffer.concat([...addresses, ports, identity === undefined ? Buffer.alloc(0) : tlv(identity)]);
  const head = Buffer.from([
    VERSION_2_PROXY,
    isIpv4 ? TCP_OVER_IPV4 : TCP_OVER_IPV6,
    body.length >> 8,
    body.length & 0xff,
  ]);
  return Buffer.concat([SIGNATURE, head, body]);
}

function mapped(address: SocketAddress): Uint8Array {
  const bytes = ipToBytes(address.ip);
  return bytes.length === 16 ? bytes : Buffer.concat([MAPPED_PREFIX, bytes]);
}

function tlv(identity: string): Buffer {
  const value = Buffer.from(identity, 'utf8');
  const head = Buffer.from([TLV_PEER_IDENTITY, value.length >> 8, value.length & 0xff]);
  return Buffer.concat([head, value]);
}
