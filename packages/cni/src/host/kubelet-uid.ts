// Whose sockets carry the kubelet's probes: the user that the kubelet runs as, found in procfs. nftables cannot ask whether
// a packet has a local socket, as iptables can, but it knows the socket's user.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Programs that are a kubelet; those with `true` are so only when their arguments say it. */
const KUBELETS: ReadonlyMap<string, boolean> = new Map([
  ['kubelet', true],
  ['kubelite', true],
  ['k3s', false],
]);

/** @param procRoot a mounted procfs, such as `/host/proc` @returns undefined when no kubelet runs there */
export function findKubeletUid(procRoot: string): number | undefined {
  let found: number | undefined;
  for (const pid of processIds(procRoot)) {
    const needsWord = KUBELETS.get(read(join(procRoot, pid, 'comm')).trim());
    if (needsWord === undefined) continue;
    if (
      needsWord &&
      !read(join(procRoot, pid, 'cmdline'))
        .toLowerCase()
        .includes('kubelet')
    )
      continue;
    // Real, effective, saved, file system: a socket belongs to the effective one.
    const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(read(join(procRoot, pid, 'status')))?.[1];
    // Anybody may call a program so, and whose sockets carry probes decides who gets past the mesh: root's comes first.
    if (uid === '0') return 0;
    if (uid !== undefined) found ??= Number(uid);
  }
  return found;
}

/** Oldest first, as far as numbers say: the kubelet is among the first. */
function processIds(procRoot: string): string[] {
  try {
    const names = readdirSync(procRoot).filter(name => /^\d+$/.test(name));
    return names.toSorted((a, b) => Number(a) - Number(b));
  } catch {
    return [];
  }
}

/** Empty for a process that has ended since. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
