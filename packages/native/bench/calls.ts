// Nanoseconds per call of the hot functions, kernel included: `node packages/native/bench/calls.ts`. Prints, asserts
// nothing. Each figure is the median of several rounds on loopback; `setsockopt` is the cheapest trip into the kernel
// and so nearly the price of the FFI itself.
import {
  createNetNs,
  duplicateFd,
  EventFd,
  IoVec,
  listenTcp,
  NetNs,
  openTcp,
  Reactor,
  readv,
  recv,
  send,
  setMark,
  setNoDelay,
  Slab,
  startConnect,
  writev,
  acceptConnection,
  Fd,
} from '../src/index.ts';

const ROUNDS = 9;

/** Median nanoseconds of `run`, called `calls` times a round. */
function measure(name: string, calls: number, run: () => void): void {
  for (let i = 0; i < calls; i++) run();
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) run();
    rounds.push(Number(process.hrtime.bigint() - start) / calls);
  }
  rounds.sort((a, b) => a - b);
  console.log(
    `${name.padEnd(44)} ${Math.round(rounds[ROUNDS >> 1] ?? 0)
      .toString()
      .padStart(7)} ns`,
  );
}

const listener = listenTcp({ address: '127.0.0.1', port: 0, backlog: 4 });
const client = openTcp('ipv4');
startConnect(client, { ip: '127.0.0.1', port: listener.port });
let server = acceptConnection(listener.fd);
while (!(server instanceof Fd)) server = acceptConnection(listener.fd);
const peer = server;
const slab = Slab.allocate(65536);
const iov = IoVec.allocate(4);
for (let i = 0; i < 4; i++) iov.push(slab, i * 16384, 256);

measure('setsockopt (TCP_NODELAY)', 20_000, () => setNoDelay(client));
measure('recv, nothing there (EAGAIN)', 20_000, () => void recv(peer, slab, 0, 1024));
measure('send 1 KiB + recv 1 KiB', 5000, () => {
  send(client, slab, 0, 1024);
  recv(peer, slab, 0, 1024);
});
measure('send 16 KiB + recv 16 KiB', 2000, () => {
  send(client, slab, 0, 16384);
  recv(peer, slab, 0, 16384);
});
measure('writev 4 x 256 + readv 4 x 256', 5000, () => {
  writev(client, iov);
  readv(peer, iov);
});
measure('vector clear + 4 pushes (no call)', 100_000, () => {
  iov.clear();
  for (let i = 0; i < 4; i++) iov.push(slab, i * 16384, 256);
});

const reactor = new Reactor();
const wake = EventFd.create();
let events = 0;
reactor.add(wake.fd, { onEvents: () => void events++ });
reactor.poll(0);
measure('epoll_wait, nothing ready', 20_000, () => void reactor.poll(0));
measure('eventfd notify + epoll_wait + handler + drain', 10_000, () => {
  wake.notify();
  reactor.poll(0);
  wake.drain();
});
measure('fcntl F_DUPFD_CLOEXEC + close', 10_000, () => duplicateFd(wake.fd).close());

try {
  const ns = createNetNs();
  measure('setns there and back', 5000, () => ns.run(() => undefined));
  measure('setns, socket, SO_MARK, setns, close', 2000, () => {
    const fd = ns.run(() => openTcp('ipv4'));
    setMark(fd, 1337);
    fd.close();
  });
  ns.close();
  NetNs.own().close();
} catch (error) {
  console.log(`setns: not measured, ${error instanceof Error ? error.message : String(error)}`);
}
reactor.close();
for (const fd of [wake.fd, client, peer, listener.fd]) fd.close();
