import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findKubeletUid } from './kubelet-uid.ts';

interface Process {
  readonly comm: string;
  readonly cmdline?: string;
  readonly uid?: number;
}

function uidOf(processes: Readonly<Record<string, Process>>): number | undefined {
  const root = mkdtempSync(join(tmpdir(), 'ambit-proc-'));
  try {
    for (const [pid, { comm, cmdline = '', uid = 0 }] of Object.entries(processes)) {
      mkdirSync(join(root, pid));
      writeFileSync(join(root, pid, 'comm'), `${comm}\n`);
      writeFileSync(join(root, pid, 'cmdline'), cmdline.replaceAll(' ', '\0'));
      writeFileSync(join(root, pid, 'status'), `Name:\t${comm}\nUid:\t9\t${uid}\t9\t9\nGid:\t0\t0\t0\t0\n`);
    }
    return findKubeletUid(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test("the kubelet's effective user is found among others", () => {
  const others = { 1: { comm: 'systemd' }, self: { comm: 'kubelet' }, 77: { comm: 'sh', cmdline: 'sh kubelet' } };
  assert.equal(uidOf({ ...others, 810: { comm: 'kubelet', cmdline: '/usr/bin/kubelet --config x', uid: 1000 } }), 1000);
  assert.equal(uidOf({ ...others, 810: { comm: 'kubelite', cmdline: '/snap/kubelite --KUBELET-args', uid: 0 } }), 0);
  assert.equal(uidOf({ ...others, 810: { comm: 'k3s', cmdline: '/usr/bin/k3s server', uid: 3 } }), 3);
});

test('a program of that name without the word in its arguments is none, and neither is nothing', () => {
  assert.equal(uidOf({ 5: { comm: 'kubelite', cmdline: '/snap/kubelite --apiserver' } }), undefined);
  assert.equal(uidOf({ 1: { comm: 'systemd' } }), undefined);
  assert.equal(findKubeletUid('/nowhere'), undefined);
});

test('a user’s program of that name is no kubelet beside one of root', () => {
  const kubelet = { comm: 'kubelet', cmdline: 'kubelet' };
  assert.equal(uidOf({ 301: { ...kubelet, uid: 1000 }, 810: kubelet }), 0);
});

test('of several the oldest counts', () => {
  const kubelet = { comm: 'kubelet', cmdline: 'kubelet' };
  assert.equal(uidOf({ 1000: { ...kubelet, uid: 2 }, 99: { ...kubelet, uid: 1 } }), 1);
});
