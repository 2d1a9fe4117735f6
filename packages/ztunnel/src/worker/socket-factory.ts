// Makes the sockets of one pod: inside the pod's network namespace, with the mark that keeps them out of redirection,
// and with the options every proxied connection gets (hbone.md section 10). Only the creation happens inside the
// namespace; connect, listen and accept need no switch.
import {
  bindTo,
  duplicateNumber,
  type Fd,
  type Listener,
  listenTcp,
  NetNs,
  openTcp,
  openUdp,
  setKeepAlive,
  setMark,
  setNoDelay,
  setTransparent,
  setUserTimeout,
  SysError,
} from '@ambit/native';
import { type Ip, ipFamily, isLoopback } from '@ambit/mesh';
import type { WorkerSettings } from '../worker-protocol.ts';

export class SocketFactory {
  readonly #settings: WorkerSettings;
  /** undefined: the process's own namespace (dedicated mode). */
  readonly #netns: NetNs | undefined;

  /** Keeps a duplicate of `netnsFd`, so that the namespace outlives the pod until its last connection ended. */
  constructor(settings: WorkerSettings, netnsFd: number | undefined) {
    this.#settings = settings;
    this.#netns = netnsFd === undefined ? undefined : NetNs.fromFd(duplicateNumber(netnsFd));
  }

  /**
   * A listener whose accepted sockets have the options of proxied connections; tunnels keep alive by PING instead.
   * @throws SysError when the port is taken or the namespace cannot be entered
   */
  listen(port: number, keeps: 'keepalive' | 'no keepalive', address = this.#settings.bindAddress): Listener {
    const { backlog, reusePort, transparent, packetMark, markListeners } = this.#settings;
    const listener = this.#inside(() =>
      listenTcp({
        address,
        port,
        backlog,
        reusePort,
        transparent,
        mark: markListeners ? packetMark : 0,
      }),
    );
    // Accepted sockets inherit these from their listener: five calls once, instead of for every connection.
    setNoDelay(listener.fd);
    if (keeps === 'keepalive') this.#keepAlive(listener.fd);
    return listener;
  }

  /** A nonblocking socket ready to connect. @throws SysError (EMFILE among others) */
  open(family: 'ipv4' | 'ipv6'): Fd {
    const fd = this.#inside(() => openTcp(family));
    if (this.#settings.packetMark !== 0) setMark(fd, this.#settings.packetMark);
    setNoDelay(fd);
    this.#keepAlive(fd);
    return fd;
  }

  /** As `open`, with the source address `source` and any port. Best effort: where the kernel refuses, the default source stays. */
  openFrom(family: 'ipv4' | 'ipv6', source: Ip, how: 'transparent' | 'plain'): Fd {
    const fd = this.open(family);
    if (how === 'transparent' && setTransparent(fd, family) < 0) return fd;
    bindTo(fd, { ip: source, port: 0 });
    return fd;
  }

  /** A UDP socket bound in the pod's namespace, beside those of the other workers. @throws SysError */
  listenUdp(address: string, port: number): Fd {
    const { reusePort, packetMark, markListeners } = this.#settings;
    const fd = this.#inside(() => openUdp(address.includes(':') ? 'ipv6' : 'ipv4', { reusePort, v6Only: true }));
    const marked = markListeners && packetMark !== 0 ? setMark(fd, packetMark) : 0;
    const bound = marked < 0 ? marked : bindTo(fd, { ip: address, port });
    if (bound >= 0) return fd;
    fd.close();
    throw new SysError(marked < 0 ? 'setsockopt' : 'bind', -bound, `${address} port ${port}, UDP`);
  }

  /** A UDP socket that reaches the resolver, see `#ofResolver`. @throws SysError */
  openUdpTo(resolver: Ip): Fd {
    return this.#ofResolver(resolver, () => openUdp(ipFamily(resolver)));
  }

  /** The same for TCP. @throws SysError */
  openTcpTo(resolver: Ip): Fd {
    return this.#ofResolver(resolver, () => openTcp(ipFamily(resolver)));
  }

  /** A resolver on loopback is the node's, which nobody finds in the pod's namespace; others are asked from there, as upstream. */
  #ofResolver(resolver: Ip, make: () => Fd): Fd {
    const fd = isLoopback(resolver) ? make() : this.#inside(make);
    if (this.#settings.packetMark !== 0) setMark(fd, this.#settings.packetMark);
    return fd;
  }

  close(): void {
    this.#netns?.close();
  }

  #keepAlive(fd: Fd): void {
    if (this.#settings.keepAlive !== undefined) setKeepAlive(fd, this.#settings.keepAlive);
    if (this.#settings.userTimeoutMs !== undefined) setUserTimeout(fd, this.#settings.userTimeoutMs);
  }

  #inside<T>(make: () => T): T {
    return this.#netns === undefined ? make() : this.#netns.run(make);
  }
}
