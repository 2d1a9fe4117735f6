// Istio's event of its plugin to its agent: `POST /cmdadd` on pluginevent.sock. Both directions, since our agent serves
// Istio's plugin and our plugin asks Istio's agent. Go writes the names (capitals), addresses as text and masks as base64.
import { type Ip, ipToBytes, parseIp } from '@ambit/mesh';
import { CniError } from '../errors.ts';

export interface CmdAdd {
  readonly netnsPath: string;
  readonly podName: string;
  readonly podNamespace: string;
  /** Canonical, IPv4-mapped forms unmapped. */
  readonly ips: readonly Ip[];
}

export const CMD_ADD_PATH = '/cmdadd';

/** Upstream's agent has no bound; a pod has a handful of addresses. */
export const MAX_CMD_ADD_BYTES = 64 * 1024;

/** @throws CniError cni.protocol: answered with 400 */
export function decodeCmdAdd(body: string): CmdAdd {
  const event = record(parse(body), 'the event');
  const ips = event['IPs'] ?? [];
  if (!Array.isArray(ips)) throw refused('IPs is not a list');
  return {
    netnsPath: text(event, 'Netns'),
    podName: text(event, 'PodName'),
    podNamespace: text(event, 'PodNamespace'),
    ips: ips.map((item: unknown) => {
      const ip = parseIp(text(record(record(item, 'IPs[]')['Address'], 'IPs[].Address'), 'IP'));
      if (ip === undefined) throw refused('IPs has something that is no address');
      return ip;
    }),
  };
}

/** With masks of single hosts: whoever reads the event looks at the addresses only. */
export function encodeCmdAdd({ netnsPath, podName, podNamespace, ips }: CmdAdd): string {
  return JSON.stringify({
    Netns: netnsPath,
    PodName: podName,
    PodNamespace: podNamespace,
    IPs: ips.map(ip => ({
      Interface: null,
      Address: { IP: ip, Mask: Buffer.alloc(ipToBytes(ip).length, 0xff).toString('base64') },
      Gateway: '',
    })),
  });
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (cause) {
    throw new CniError('cni.protocol', 'the event of the plugin is no JSON', { cause });
  }
}

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refused(`${what} is not an object`);
  return { ...value };
}

function text(from: Readonly<Record<string, unknown>>, key: string): string {
  const value = from[key];
  if (typeof value !== 'string' || value === '') throw refused(`${key} is missing`);
  return value;
}

function refused(what: string): CniError {
  return new CniError('cni.protocol', `not an event of a CNI plugin: ${what}`);
}
