// Finds the network namespaces of pods through procfs, for pods of which nobody said where their namespace is: those that
// ran before the agent did. A namespace counts as a pod's only when one of the pod's addresses is on an interface in it,
// so that neither a stale cgroup nor a shared process can hand one pod's namespace to another.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { listAddresses, type NetNs } from '@ambit/native';
import { type Log } from '@ambit/log';
import { HeldNetns } from './held-netns.ts';
import { cgroupOwner, startTicks } from './pod-cgroup.ts';

export interface WantedPod {
  readonly uid: string;
  /** Canonical text. A pod without any is not looked for. */
  readonly ips: readonly string[];
}

interface Found {
  readonly uid: string;
  readonly held: HeldNetns;
  /** When its oldest process began, of those seen so far. */
  readonly ticks: number;
}

/** Processes looked at before the event loop gets its turn. */
const SLICE = 200;

/** Whether any of the addresses is on an interface of the namespace. @throws SysError when it cannot be entered */
export function ownsAddress(netns: NetNs, ips: readonly string[]): boolean {
  const there = netns.run(() => listAddresses());
  return there.some(({ ip }) => ips.includes(ip));
}

export class NetnsFinder {
  readonly #proc: string;
  readonly #log: Log;

  /** `proc` is the host's procfs, such as `/host/proc`. */
  constructor(proc: string, log: Log) {
    this.#proc = proc;
    this.#log = log;
  }

  /** `dev:inode` of the node's own network: never a pod's. undefined when we may not look, as without being root. */
  hostKey(): string | undefined {
    try {
      return keyOf(join(this.#proc, '1/ns/net'));
    } catch {
      return undefined;
    }
  }

  /**
   * One walk over all processes. @returns by UID what was found, owned by the caller; of several namespaces of a pod the
   * one whose process is oldest.
   */
  async find(pods: readonly WantedPod[], signal: AbortSignal): Promise<Map<string, HeldNetns>> {
    const wanted = new Map(pods.filter(({ ips }) => ips.length > 0).map(pod => [pod.uid, pod]));
    const found = new Map<string, Found>();
    if (wanted.size === 0) return new Map();
    const owners = new Map<string, string>();
    const host = this.hostKey();
    let looked = 0;
    for (const name of readdirSync(this.#proc)) {
      if (!/^\d+$/.test(name)) continue;
      if (++looked % SLICE === 0) await turn();
      if (signal.aborted) break;
      const key = this.#keyOf(name);
      if (key === undefined || key === host) continue;
      const owner = owners.get(key);
      const best = owner === undefined ? undefined : found.get(owner);
      const candidate = this.#look(name, key, wanted, best);
      if (candidate === undefined || (owner !== undefined && candidate.uid !== owner)) {
        candidate?.held.close();
        continue;
      }
      owners.set(key, candidate.uid);
      const before = found.get(candidate.uid);
      if (before !== undefined && before.ticks <= candidate.ticks) {
        candidate.held.close();
        continue;
      }
      if (before?.held !== candidate.held) before?.held.close();
      found.set(candidate.uid, candidate);
    }
    return new Map([...found].map(([uid, { held }]) => [uid, held]));
  }

  #keyOf(name: string): string | undefined {
    try {
      return keyOf(join(this.#proc, name, 'ns/net'));
    } catch {
      return undefined;
    }
  }

  /**
   * Processes end while they are looked at: whatever cannot be read is nobody's. @param best what was found so far for the pod
   * whose this namespace was when it was seen before: only an older process tells anything new
   */
  #look(name: string, key: string, wanted: ReadonlyMap<string, WantedPod>, best: Found | undefined): Found | undefined {
    const directory = join(this.#proc, name);
    let held: HeldNetns | undefined;
    try {
      const ticks = startTicks(readFileSync(join(directory, 'stat'), 'utf8'));
      if (ticks === undefined || (best !== undefined && best.ticks <= ticks)) return undefined;
      const owner = cgroupOwner(readFileSync(join(directory, 'cgroup'), 'utf8'));
      const pod = owner.kind === 'pod' ? wanted.get(owner.uid) : undefined;
      if (pod === undefined) return undefined;
      if (best?.uid === pod.uid && best.held.key === key) return { ...best, ticks };
      held = HeldNetns.open(join(directory, 'ns/net'));
      // Opened after it was looked at: it may be another process's by now.
      if (held.key === key && ownsAddress(held.netns, pod.ips)) {
        const result = { uid: pod.uid, held, ticks };
        held = undefined;
        return result;
      }
      this.#log.warn('A process of a pod is in a network without the pod’s address', {
        pod: pod.uid,
        pid: Number(name),
      });
      return undefined;
    } catch {
      return undefined;
    } finally {
      held?.close();
    }
  }
}

function keyOf(path: string): string {
  const { dev, ino } = statSync(path, { bigint: true });
  return `${dev}:${ino}`;
}
