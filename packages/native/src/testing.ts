// Set-up shared by this package's tests: connected TCP pairs and waiting for readiness through our own reactor.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { Errno } from './errno.ts';
import { Fd } from './fd.ts';
import { createNetNs, type NetNs } from './net-ns.ts';
import { EventMask, Reactor } from './reactor.ts';
import { acceptConnection } from './socket-io.ts';
import { socketError } from './socket-options.ts';
import { type Listener, listenTcp, openTcp, startConnect } from './socket-setup.ts';

/** Blocks until one of the bits (or an error) is reported; fails after 5 s. Edge-triggered: register before it is due. */
export function waitFor(fd: Fd, bits: number): number {
  using reactor = new Reactor();
  let seen = 0;
  reactor.add(fd, { onEvents: mask => void (seen |= mask) });
  while ((seen & (bits | EventMask.ERR | EventMask.HUP)) === 0) {
    if (reactor.poll(5000) === 0) assert.fail(`descriptor never became ready for ${bits}`);
  }
  return seen;
}

/** Accepts one connection, waiting for it. */
export function acceptOne(listener: Fd): Fd {
  for (;;) {
    const accepted = acceptConnection(listener);
    if (accepted instanceof Fd) return accepted;
    assert.equal(accepted, -Errno.EAGAIN);
    waitFor(listener, EventMask.IN);
  }
}

export interface TcpPair extends Disposable {
  readonly client: Fd;
  readonly server: Fd;
  readonly listener: Listener;
}

/** A connection over loopback, both ends ours. */
export function tcpPair(address = '127.0.0.1', to = address): TcpPair {
  const listener = listenTcp({ address, port: 0, backlog: 16 });
  const client = openTcp(to.includes(':') ? 'ipv6' : 'ipv4');
  const started = startConnect(client, { ip: to, port: listener.port });
  assert.ok(started === 0 || started === -Errno.EINPROGRESS, `connect gave ${started}`);
  const server = acceptOne(listener.fd);
  waitFor(client, EventMask.OUT);
  assert.equal(socketError(client), 0);
  return {
    client,
    server,
    listener,
    [Symbol.dispose]: () => {
      for (const fd of [client, server, listener.fd]) fd.close();
    },
  };
}

/** Why tests with network namespaces cannot run here, or false when they can; for `test(name, { skip })`. */
export function netNsSkip(): string | false {
  try {
    createNetNs().close();
    return false;
  } catch (error) {
    return `no network namespaces: ${error instanceof Error ? error.message : 'unknown error'} (needs CAP_SYS_ADMIN)`;
  }
}

/** The same for tests that also run a system tool. */
export function toolSkip(tool: string): string | false {
  return spawnSync(tool, ['-V']).error === undefined ? netNsSkip() : `${tool} is not installed`;
}

/** Runs a tool inside the namespace; a child process inherits the thread's. */
export function runIn(ns: NetNs, tool: string, args: readonly string[], input = ''): void {
  const result = ns.run(() => spawnSync(tool, args, { input, encoding: 'utf8' }));
  assert.equal(result.status, 0, `${tool} ${args.join(' ')}: ${result.stderr}`);
}
