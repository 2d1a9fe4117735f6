// Opens full TLS 1.3 handshakes with a client certificate, no resumption, for a while, and counts those that the server
// has accepted: it must have sent application data (HTTP/2 settings, or the echo of our byte), which it does only after
// it verified us. Arguments: host, port, seconds, at once, directory of certificates. Prints one JSON document.
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';

const [host = '', port = '', seconds = '1', atOnce = '8', directory = ''] = process.argv.slice(2);
const key = readFileSync(`${directory}/generator.key`);
const cert = readFileSync(`${directory}/generator.pem`);
const ca = readFileSync(`${directory}/root.pem`);
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
const end = performance.now() + Number(seconds) * 1_000;
let done = 0;
let failed = 0;
let running = 0;
let lastError = '';

function next(): void {
  if (performance.now() >= end || failed > 1_000) {
    if (running === 0) process.stdout.write(`${JSON.stringify({ done, failed, lastError })}\n`);
    return;
  }
  running++;
  const socket = connect({
    host,
    port: Number(port),
    key,
    cert,
    ca,
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['h2'],
    // The server's name is a SPIFFE identity; the chain to the root is still verified.
    checkServerIdentity: () => undefined,
  });
  let isAccepted = false;
  socket.once('secureConnect', () => socket.write(PREFACE));
  socket.once('data', () => {
    isAccepted = true;
    socket.destroy();
  });
  socket.on('error', (error: Error) => {
    lastError = error.message;
  });
  socket.setTimeout(5_000, () => socket.destroy());
  socket.once('close', () => {
    running--;
    if (isAccepted) done++;
    else failed++;
    next();
  });
}

for (let i = 0; i < Number(atOnce); i++) next();
