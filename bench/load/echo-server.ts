// Sends back what it gets. Argument: the port.
import { createServer } from 'node:net';

const server = createServer({ noDelay: true }, socket => {
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
});
server.listen({ port: Number(process.argv[2]), host: '::', backlog: 4096 });
