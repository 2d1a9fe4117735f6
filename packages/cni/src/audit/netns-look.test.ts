import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listenTcp } from '@ambit/native';
import { netNsSkip, podLikeNetNs } from '../redirect/netns-testing.ts';
import { lookInto } from './netns-look.ts';

const PORTS = new Map([
  [15008, 'everywhere'],
  [15053, 'loopback'],
] as const);

test('a listener counts where it matters: on every address, or for a port that is reached by loopback also there', {
  skip: netNsSkip(),
}, () => {
  const netns = podLikeNetNs();
  const open = (address: string, port: number) =>
    netns.run(() => listenTcp({ address, port, backlog: 1, reusePort: true })).fd;
  const seen = () => [...lookInto(netns, PORTS).tcp].toSorted((a, b) => a - b);
  const hidden = [open('127.0.0.1', 15008), open('127.0.0.2', 15053), open('::', 1)];
  assert.deepEqual(seen(), []);
  const dns = open('127.0.0.1', 15053);
  assert.deepEqual(seen(), [15053]);
  const inbound = open('::', 15008);
  assert.deepEqual(seen(), [15008, 15053]);
  for (const fd of [...hidden, dns, inbound]) fd.close();
  netns.close();
});
