import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cgroupOwner, startTicks } from './pod-cgroup.ts';

const UID = '3d3a5b1e-0c46-4d7f-9a55-6f2b8c9d0e1f';
const UNDER = UID.replaceAll('-', '_');
const ID = 'a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90';
const POD = { kind: 'pod', uid: UID, containerId: ID };

const PATHS: readonly (readonly [string, string])[] = [
  [
    'containerd with systemd, cgroup v2',
    `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UNDER}.slice/cri-containerd-${ID}.scope`,
  ],
  ['containerd with cgroupfs', `0::/kubepods/besteffort/pod${UID}/${ID}`],
  [
    'containerd in a slice of its own',
    `0::/system.slice/containerd.service/kubepods-pod${UNDER}.slice:cri-containerd:${ID}`,
  ],
  [
    'docker with cgroup v1',
    `12:pids:/kubepods/pod${UID}/${ID}\n11:cpu,cpuacct:/kubepods/pod${UID}/${ID}\n1:name=systemd:/`,
  ],
  ['docker with systemd', `0::/kubepods.slice/kubepods-pod${UNDER}.slice/docker-${ID}.scope`],
  ['CRI-O', `0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${UNDER}.slice/crio-${ID}.scope`],
  [
    'CRI-O with a container cgroup below',
    `0::/kubepods.slice/kubepods-pod${UNDER}.slice/crio-${ID}.scope/container/${ID}`,
  ],
  [
    'kind, a node in a container',
    `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${UNDER}.slice/cri-containerd-${ID}.scope`,
  ],
];

for (const [what, text] of PATHS) {
  test(`a pod's process is known by its cgroup: ${what}`, () => {
    assert.deepEqual(cgroupOwner(`${text}\n`), POD);
  });
}

test('processes of nobody, and of a container without a pod, belong to no pod', () => {
  for (const text of [
    '0::/',
    '0::/user.slice/user-0.slice',
    `0::/crio-${ID}.scope`,
    `0::/docker/${ID}`,
    `0::/podman/${UID}`,
  ]) {
    assert.deepEqual(cgroupOwner(text), { kind: 'none' }, text);
  }
});

test('a process whose cgroups disagree belongs to nobody we would believe', () => {
  const other = `1:cpu:/kubepods/pod${UID.replace('3d3a', '4d3a')}/${ID}`;
  assert.equal(cgroupOwner(`0::/kubepods/pod${UID}/${ID}\n${other}`).kind, 'unclear');
  assert.equal(
    cgroupOwner(`0::/kubepods/pod${UID}/${ID}\n1:cpu:/kubepods/pod${UID}/${ID.replace('a', 'b')}`).kind,
    'unclear',
  );
  assert.equal(cgroupOwner('nonsense').kind, 'unclear');
});

test('a pod that makes cgroups below its own is never taken for another', () => {
  const other = UID.replace('3d3a', '4d3a');
  for (const between of ['', '/x', '/x'.repeat(16), '/x'.repeat(40), `/${'x'.repeat(255)}`]) {
    const owner = cgroupOwner(`0::/kubepods/pod${UID}/${ID}${between}/kubepods/pod${other}/${ID}`);
    assert.notEqual(owner.kind === 'pod' ? owner.uid : undefined, other, between);
  }
});

test('whatever a cgroup file holds, reading it ends with an answer', () => {
  const piece = fc.constantFrom('pod', UID, UNDER, ID, '/', ':', '-', '.scope', '.slice', '0::', '\n', 'x');
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string({ maxLength: 8 })), { maxLength: 60 }), parts => {
      const owner = cgroupOwner(parts.join(''));
      assert.ok(['pod', 'none', 'unclear'].includes(owner.kind));
      if (owner.kind === 'pod') assert.match(owner.uid, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    }),
    { seed: 5, numRuns: 500 },
  );
});

test('the start of a process is counted from the end of its name, whatever that is', () => {
  const rest = Array.from({ length: 30 }, (_, i) => i + 3)
    .join(' ')
    .replace(/^3/, 'S');
  assert.equal(startTicks(`7 (a) S 1 (b) ${rest}`), 22);
  assert.equal(startTicks('7 (short) S 1'), undefined);
  assert.equal(startTicks(''), undefined);
});
