// A program for pods, in tests: serves or makes one TCP connection and says what its own end of it looks like. Serving
// answers each connection with a line of JSON; calling prints the line it got.
//   peer.ts serve PORT           "listening" on standard output when ready; runs until killed
//   peer.ts call IP PORT [--mark=N] [--from=IP]
import {
  acceptConnection,
  bindTo,
  Errno,
  EventMask,
  type Fd,
  familyOf,
  listenTcp,
  localAddress,
  openTcp,
  originalDestination,
  peerAddress,
  Reactor,
  recv,
  type SocketAddress,
  send,
  setMark,
  setTransparent,
  Slab,
  shutdownWrite,
  socketError,
  startConnect,
} from '@ambit/native';

/** What a server saw of a connection. */
export interface Seen {
  readonly port: number;
  readonly local: SocketAddress;
  readonly peer: SocketAddress;
  readonly original: SocketAddress | undefined;
}

const slab = Slab.allocate(4096);

function serve(port: number): void {
  const { fd: listener } = listenTcp({ address: '::', port, backlog: 128 });
  const reactor = new Reactor();
  reactor.add(listener, {
    onEvents: () => {
      for (let fd = acceptConnection(listener); typeof fd !== 'number'; fd = acceptConnection(listener))
        answer(port, fd);
    },
  });
  process.stdout.write('listening\n');
  for (;;) reactor.poll(-1);
}

function answer(port: number, fd: Fd): void {
  const seen: Seen = { port, local: localAddress(fd), peer: peerAddress(fd), original: originalDestination(fd) };
  const length = slab.bytes.write(JSON.stringify(seen));
  send(fd, slab, 0, length);
  shutdownWrite(fd);
  fd.close();
}

function call(to: SocketAddress, mark: number, from: string | undefined): void {
  const fd = openTcp(familyOf(to.ip));
  check('set mark', mark === 0 ? 0 : setMark(fd, mark));
  if (from !== undefined) {
    check('be transparent', setTransparent(fd, familyOf(to.ip)));
    check('bind', bindTo(fd, { ip: from, port: 0 }));
  }
  check('connect', startConnect(fd, to), Errno.EINPROGRESS);
  const reactor = new Reactor();
  let text: string | undefined;
  reactor.add(fd, {
    onEvents: mask => {
      if ((mask & EventMask.ERR) !== 0) check('connect', socketError(fd));
      const n = recv(fd, slab, 0, slab.size);
      if (n === -Errno.EAGAIN) return;
      check('receive', n);
      // An end without an answer comes from a listener that was closed meanwhile.
      text = slab.bytes.toString('utf8', 0, n);
    },
  });
  while (text === undefined) reactor.poll(-1);
  process.stdout.write(`${text}\n`);
}

function check(what: string, result: number, also = 0): void {
  if (result >= 0 || result === -also) return;
  const name = Object.entries(Errno).find(([, value]) => value === -result)?.[0] ?? String(-result);
  process.stdout.write(`${name}\n`);
  process.stderr.write(`cannot ${what}: ${name}\n`);
  process.exit(1);
}

const option = (name: string) => process.argv.find(arg => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
const [, , mode, first = '', second = ''] = process.argv;
if (mode === 'serve') serve(Number(first));
if (mode === 'call') call({ ip: first, port: Number(second) }, Number(option('mark') ?? 0), option('from'));
