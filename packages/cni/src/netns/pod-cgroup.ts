// Which pod a process belongs to, read from `/proc/PID/cgroup`; pure. Container runtimes and cgroup drivers write the pod's
// UID and the container's id into the path in several ways (docker, containerd, CRI-O; cgroup v1 and v2; cgroupfs and
// systemd). https://man7.org/linux/man-pages/man7/cgroups.7.html

export type CgroupOwner =
  | { readonly kind: 'pod'; readonly uid: string; readonly containerId: string }
  /** No pod's process. */
  | { readonly kind: 'none' }
  /** Two pods or two containers at once, or no cgroup file at all: nothing to rely on. */
  | { readonly kind: 'unclear'; readonly why: string };

const UID = '([0-9a-f]{8})[-_.]?([0-9a-f]{4})[-_.]?([0-9a-f]{4})[-_.]?([0-9a-f]{4})[-_.]?([0-9a-f]{12})';
/** `…/pod<uid>/<container>`, `…-pod<uid>.slice/cri-containerd-<container>.scope`, `…_pod<uid>…:<prefix>:<container>`. */
const POD = new RegExp(`[-/_.:]pod${UID}[-/_.:]`, 'i');
const CONTAINER = /^(?:[^/]{0,253}\/){0,16}(?:[\w.:-]{0,128}[-/_.:])?([0-9a-f]{8,128})$/i;
const MAX_LINES = 64;
const MAX_PATH = 4096;

/** @param text content of the file */
export function cgroupOwner(text: string): CgroupOwner {
  const lines = text.split('\n').filter(line => line !== '');
  if (lines.length > MAX_LINES) return { kind: 'unclear', why: `more than ${MAX_LINES} cgroups` };
  let found: { readonly uid: string; readonly containerId: string } | undefined;
  for (const line of lines) {
    // hierarchy:controllers:path, where the path may hold colons.
    const [, , ...rest] = line.split(':');
    if (rest.length === 0) return { kind: 'unclear', why: 'a line is no cgroup' };
    const owner = ownerOf(rest.join(':'));
    if (owner === undefined) continue;
    if (found !== undefined && (found.uid !== owner.uid || found.containerId !== owner.containerId)) {
      return { kind: 'unclear', why: 'its cgroups name different pods or containers' };
    }
    found = owner;
  }
  return found === undefined ? { kind: 'none' } : { kind: 'pod', ...found };
}

function ownerOf(path: string): { readonly uid: string; readonly containerId: string } | undefined {
  if (path.length > MAX_PATH) return undefined;
  // The first pod that is named counts, since what is below its cgroup may be of its own making.
  const match = POD.exec(path);
  if (match === null) return undefined;
  const below = path.slice(match.index + match[0].length).replace(/\.scope$/, '');
  const containerId = CONTAINER.exec(below)?.[1];
  if (containerId === undefined) return undefined;
  return { uid: match.slice(1, 6).join('-').toLowerCase(), containerId };
}

/**
 * When the process began, in clock ticks since boot: field 22 of `/proc/PID/stat`, counted from the last `)` because the
 * second field, the program's name, may hold anything. undefined when it cannot be read.
 */
export function startTicks(stat: string): number | undefined {
  const fields = stat
    .slice(stat.lastIndexOf(')') + 1)
    .trim()
    .split(' ');
  const text = fields[19];
  return text !== undefined && /^\d{1,20}$/.test(text) ? Number(text) : undefined;
}
