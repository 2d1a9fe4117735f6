// For tests: whether network namespaces can be made here, a namespace like a pod's, and nft's own tool inside it.
import { spawnSync } from 'node:child_process';
import { createNetNs, type NetNs, Nftables, setLink } from '@ambit/native';

/** For `test(name, { skip })`: false, or why such tests cannot run. */
export function netNsSkip(): string | false {
  if (!Nftables.available()) return 'libnftables1 is not installed';
  try {
    createNetNs().close();
    return false;
  } catch {
    return 'needs root to make a network namespace';
  }
}

/** As `netNsSkip`, and that `tool` can be run. */
export function toolSkip(tool: string): string | false {
  return spawnSync(tool, ['--version']).error === undefined ? netNsSkip() : `${tool} is not installed`;
}

/** Nothing but a loopback that is up. */
export function podLikeNetNs(): NetNs {
  const netns = createNetNs();
  netns.run(() => setLink(1, { up: true }));
  return netns;
}

/** Runs a tool inside and returns its output. @throws Error with what it said */
export function runIn(netns: NetNs, command: string, args: readonly string[], input = ''): string {
  // A child begins in the namespace of the thread that makes it.
  const result = netns.run(() => spawnSync(command, args, { input, encoding: 'utf8', timeout: 10_000 }));
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${result.stderr || String(result.error)}`);
  return result.stdout;
}
