// Opens connections, sees one byte come back on each, holds them until its standard input ends, then closes them all.
// Arguments: host, port, how many. Prints `<open> <failed>` once every connection is settled.
import { connect, type Socket } from 'node:net';

const [host = '', port = '', wanted = '0'] = process.argv.slice(2);
const AT_ONCE = 32;
const sockets = new Set<Socket>();
const total = Number(wanted);
let started = 0;
let failed = 0;
let open = 0;

function settle(): void {
  if (open + failed === total) process.stdout.write(`${open} ${failed}\n`);
  start();
}

function start(): void {
  if (started === total) return;
  started++;
  const socket = connect(Number(port), host, () => socket.write('x'));
  sockets.add(socket);
  let isOpen = false;
  socket.once('data', () => {
    isOpen = true;
    open++;
    settle();
  });
  socket.on('error', () => undefined); // `close` follows
  socket.once('close', () => {
    if (isOpen) return;
    failed++;
    settle();
  });
}

for (let i = 0; i < AT_ONCE; i++) start();
process.stdin.resume();
process.stdin.once('end', () => {
  for (const socket of sockets) socket.end();
  setTimeout(() => process.exit(0), 1_000);
});
