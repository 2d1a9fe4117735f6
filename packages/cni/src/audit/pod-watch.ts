// What the audit remembers of one pod between two looks, and the look itself. A look is a few system calls; what it awaits is
// only a back end that has to run programs.
import { statSync } from 'node:fs';
import { errorText } from '@ambit/log';
import { NetNs } from '@ambit/native';
import type { Drift, RedirectBackend, VerifyStamp } from '../redirect/redirect-plan.ts';
import { podName } from '../pod/agent-pod.ts';
import { REDIRECTION_ANNOTATION } from '../sources/pod-source.ts';
import type { AuditedPod } from './audit-types.ts';
import { type NetnsFacts, ZTUNNEL_PORTS } from './check-pod.ts';
import { type CanaryState, newCanaryState } from './canary-rounds.ts';
import type { Place } from './ledger.ts';
import { lookInto } from './netns-look.ts';

export interface PodWatch {
  readonly uid: string;
  audited: AuditedPod;
  netns: NetnsFacts;
  /** What that was a look at: the namespace, and since when the pod had the status it had. */
  seen: { readonly netns: NetNs | undefined; readonly since: Date } | undefined;
  drift: readonly Drift[] | undefined;
  stamp: VerifyStamp | undefined;
  /** Its source has told of what we noted on it, so it would again. */
  showsStatus: boolean;
  canary: CanaryState;
}

export interface LookDeps {
  readonly backend: RedirectBackend;
  /** Where the node's files are, before every path that a source names. */
  readonly hostRoot: string;
}

const UNKNOWN: NetnsFacts = { kind: 'unknown' };

/**
 * Sees the pod as it is now; unless `isWhole`, its rules and routes only, and the rest as it was a moment ago. Never throws:
 * what cannot be seen is a fact too.
 */
export async function lookAt(watch: PodWatch, { backend, hostRoot }: LookDeps, isWhole: boolean): Promise<void> {
  const { pod, netns: held, plan, shouldBeMember, since } = watch.audited;
  if (pod.annotations[REDIRECTION_ANNOTATION] !== undefined) watch.showsStatus = true;
  const path = pod.netnsPath === undefined ? undefined : hostRoot + pod.netnsPath;
  const opened = held === undefined && path !== undefined ? openOrNothing(path) : undefined;
  const netns = held ?? opened;
  try {
    if (netns === undefined) {
      watch.netns = UNKNOWN;
      watch.drift = undefined;
      watch.stamp = undefined;
      return;
    }
    const isSame = watch.seen?.netns === held && watch.seen?.since.getTime() === since.getTime();
    if (isWhole || watch.netns.kind !== 'seen' || !isSame) {
      const isElsewhere = held !== undefined && path !== undefined && !leadsTo(path, held);
      watch.netns = { kind: 'seen', look: lookInto(netns, ZTUNNEL_PORTS), isElsewhere };
      watch.seen = { netns: held, since };
    }
    const wanted = shouldBeMember === true ? plan : undefined;
    // A member without a plan is being taken in, or is let through on purpose: nothing to compare with.
    if (shouldBeMember === undefined || (shouldBeMember && plan === undefined)) watch.drift = undefined;
    else {
      const { drift, stamp } = await backend.verify(netns, wanted, watch.stamp);
      watch.drift = drift;
      watch.stamp = stamp;
    }
  } catch (error) {
    watch.netns = { kind: 'unreachable', why: errorText(error) };
    watch.drift = undefined;
    watch.stamp = undefined;
  } finally {
    opened?.close();
  }
}

/** Whatever this changes with may have changed the pod's way through the mesh. */
export function wayKey({ audited, netns, stamp }: PodWatch): string {
  const { status, since } = audited;
  const sockets = netns.kind === 'seen' ? netns.look.sockets : netns.kind;
  return `${status} ${since.getTime()} ${sockets} ${stamp?.generation} ${stamp?.digest}`;
}

function openOrNothing(path: string): NetNs | undefined {
  try {
    return NetNs.open(path);
  } catch {
    return undefined; // it has ended, or is none of this machine's
  }
}

/** Only a path that leads to another namespace is evidence; one that leads nowhere is the pod's end. */
function leadsTo(path: string, { identity }: NetNs): boolean {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return dev === identity.dev && ino === identity.ino;
  } catch {
    return true;
  }
}

/** How long a pod that was just taken in is not looked at unasked: what was programmed a moment ago is what it should be. */
export const FIRST_LOOK_MS = 3_000;

/** How long it has been in its status; undefined when somebody set the clock back meanwhile. */
export function ageMs({ since }: AuditedPod): number | undefined {
  const age = Date.now() - since.getTime();
  return age < 0 ? undefined : age;
}

/** It has a network that was never looked into. */
export function isUnseen({ audited, seen, netns }: PodWatch): boolean {
  return audited.netns !== undefined && seen === undefined && netns.kind === 'unknown';
}

export function newWatch(audited: AuditedPod, nowMs: number): PodWatch {
  return {
    uid: audited.pod.uid,
    audited,
    netns: UNKNOWN,
    seen: undefined,
    drift: undefined,
    stamp: undefined,
    showsStatus: false,
    canary: newCanaryState(nowMs),
  };
}

export function placeOf({ uid, audited }: PodWatch): Place {
  return { uid, name: podName(audited.pod) };
}

export type AddressPlaces = ReadonlyMap<string, readonly PodWatch[]>;

/** Where each address is, as far as namespaces have been seen. */
export function addressPlaces(watches: Iterable<PodWatch>): AddressPlaces {
  const places = new Map<string, PodWatch[]>();
  for (const watch of watches) {
    if (watch.netns.kind !== 'seen') continue;
    for (const ip of watch.netns.look.addresses) {
      const there = places.get(ip);
      if (there === undefined) places.set(ip, [watch]);
      else there.push(watch);
    }
  }
  return places;
}

/** Name of another pod in whose namespace an address of this one is. */
export function addressAt(watch: PodWatch, places: AddressPlaces): string | undefined {
  for (const ip of watch.audited.pod.ips) {
    const other = places.get(ip)?.find(each => each !== watch);
    if (other !== undefined) return podName(other.audited.pod);
  }
  return undefined;
}
