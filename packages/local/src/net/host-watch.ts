// Looks after what the mesh needs of the host's network while it is up, since others change it too: two numbers every two
// seconds, and the whole rule set only when the kernel says that it has changed. Says what it mends; never gives up.
import { readFileSync } from 'node:fs';
import { errorText, type Log } from '@ambit/log';
import { nftGeneration } from '@ambit/native';
import { repairHostNetwork } from './host-network.ts';

const PERIOD_MS = 2_000;
const SWITCHES = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'];

/** @param notePath what `ensureHostNetwork` noted @returns ends it */
export function watchHostNetwork(notePath: string, log: Log): () => void {
  let seen: string | undefined;
  const look = () => {
    try {
      const now = fingerprint();
      if (now === seen) return;
      if (repairHostNetwork(notePath)) log.warn("Put right what others changed on this machine's network");
      seen = fingerprint();
    } catch (error) {
      log.error("Cannot look after this machine's network", { error: errorText(error) });
    }
  };
  const timer = setInterval(look, PERIOD_MS);
  return () => clearInterval(timer);
}

function fingerprint(): string {
  return [nftGeneration(), ...SWITCHES.map(readSwitch)].join(' ');
}

function readSwitch(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return ''; // a kernel without IPv6
  }
}
