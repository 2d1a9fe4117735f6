// The ports of one pod's DNS proxy: UDP and TCP at each of its addresses. Whoever opens them closes them, also after opening
// failed halfway.
import { Errno, type Fd, SysError } from '@ambit/native';
import { ConnectionListener } from '../worker/listener.ts';
import type { SocketFactory } from '../worker/socket-factory.ts';
import type { DnsProxySettings } from './dns-messages.ts';
import { UdpListener, type UdpListenerDeps } from './udp-listener.ts';

export interface PodPortsDeps extends UdpListenerDeps {
  readonly sockets: SocketFactory;
  readonly onAccepted: (fd: Fd) => void;
  readonly onNoFds: () => void;
}

const NO_IPV6: ReadonlySet<number> = new Set([Errno.EADDRNOTAVAIL, Errno.EAFNOSUPPORT]);

export class PodPorts {
  readonly #deps: PodPortsDeps;
  #udp: UdpListener[] = [];
  #tcp: ConnectionListener[] = [];

  constructor(deps: PodPortsDeps) {
    this.#deps = deps;
  }

  /** @throws SysError */
  open({ address, port, ipv6 }: DnsProxySettings): void {
    if (address !== 'localhost') this.#listen(address, port);
    else {
      this.#listen('127.0.0.1', port);
      if (ipv6) this.#tryIpv6(port);
    }
  }

  /** Takes no more connections. */
  closeTcp(): void {
    for (const listener of this.#tcp) listener.close();
    this.#tcp = [];
  }

  close(): void {
    this.closeTcp();
    for (const listener of this.#udp) listener.close();
    this.#udp = [];
  }

  #listen(address: string, port: number): void {
    const { engine, sockets, onAccepted, onNoFds } = this.#deps;
    this.#udp.push(new UdpListener(this.#deps, sockets.listenUdp(address, port)));
    const { fd } = sockets.listen(port, 'no keepalive', address);
    this.#tcp.push(new ConnectionListener(engine, fd, onAccepted, onNoFds));
  }

  /** A pod whose loopback has no IPv6 is served by IPv4 alone; its own resolver cannot ask there either. */
  #tryIpv6(port: number): void {
    try {
      this.#listen('::1', port);
    } catch (error) {
      const isMissing = error instanceof SysError && NO_IPV6.has(error.errno);
      if (!isMissing) throw error;
    }
  }
}
