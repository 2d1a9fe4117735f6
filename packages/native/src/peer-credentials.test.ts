import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventFd } from './event-fd.ts';
import { SysError } from './errors.ts';
import { peerCredentials } from './peer-credentials.ts';
import { SeqPacket } from './seqpacket.ts';

test('the peer of a Unix socket is known by process, user and group', () => {
  const [one, other] = SeqPacket.pair();
  const seen = peerCredentials(one.fd);
  one.close();
  other.close();
  assert.deepEqual(seen, {
    pid: process.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
});

test('what is no socket has no peer', () => {
  const event = EventFd.create();
  try {
    assert.throws(() => peerCredentials(event.fd), SysError);
  } finally {
    event.close();
  }
});
