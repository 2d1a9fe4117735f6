// shop/db where Debian's Redis is not installed: SET and GET of the Redis protocol (RESP2) over TCP, values in memory.
import { createServer, type Socket } from 'node:net';

const MAX_BYTES = 1 << 20;
const values = new Map<string, string>();

function serve(socket: Socket): void {
  let text = '';
  socket.setEncoding('latin1');
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  socket.on('data', (more: string) => {
    text += more;
    if (text.length > MAX_BYTES) socket.destroy();
    for (let command = take(text); command !== undefined; command = take(text)) {
      text = command.rest;
      socket.write(execute(command.words), 'latin1');
    }
  });
}

/** The first whole command, or undefined. */
function take(text: string): { words: string[]; rest: string } | undefined {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (head === null) return undefined;
  let at = head[0].length;
  const words: string[] = [];
  for (let i = 0; i < Number(head[1]); i++) {
    const size = /^\$(\d+)\r\n/.exec(text.slice(at, at + 16));
    if (size === null) return undefined;
    at += size[0].length;
    const end = at + Number(size[1]);
    if (text.length < end + 2) return undefined;
    words.push(text.slice(at, end));
    at = end + 2;
  }
  return { words, rest: text.slice(at) };
}

function execute([name = '', key = '', value = '']: readonly string[]): string {
  switch (name.toUpperCase()) {
    case 'SET':
      values.set(key, value);
      return '+OK\r\n';
    case 'GET': {
      const found = values.get(key);
      return found === undefined ? '$-1\r\n' : `$${found.length}\r\n${found}\r\n`;
    }
    default:
      return '-ERR unknown command\r\n';
  }
}

createServer(serve).listen(6379, '::');
