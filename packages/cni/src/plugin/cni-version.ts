// The versions of the CNI specification that the plugin speaks, and what each of them brought.
// https://github.com/containernetworking/cni/blob/main/SPEC.md
import { CniError } from '../errors.ts';

/** Oldest first. */
export const CNI_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof CNI_VERSIONS)[number];

export const NEWEST_CNI_VERSION: CniVersion = '1.1.0';

/** What a configuration without `cniVersion` means: the field is older than none of the versions. */
const UNSAID: CniVersion = '0.1.0';

/** From which version on a configuration may be used with a command. */
const SINCE: Readonly<Record<string, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

export function isCniVersion(text: unknown): text is CniVersion {
  return CNI_VERSIONS.some(version => version === text);
}

/** @throws CniError cni.unsupported */
export function readCniVersion(value: unknown): CniVersion {
  if (value === undefined || value === null || value === '') return UNSAID;
  if (isCniVersion(value)) return value;
  throw new CniError('cni.unsupported', `CNI version ${JSON.stringify(value)} is none that this plugin speaks`, {
    next: `use one of ${CNI_VERSIONS.join(', ')} as cniVersion of the network`,
  });
}

/** @throws CniError cni.unsupported when the command did not exist in the configuration's version */
export function requireCommand(command: string, version: CniVersion): void {
  const since = SINCE[command];
  if (since === undefined || isAtLeast(version, since)) return;
  throw new CniError('cni.unsupported', `a network of CNI version ${version} has no ${command}`, {
    next: `${command} needs cniVersion ${since} or newer`,
  });
}

export function isAtLeast(version: CniVersion, other: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(other);
}
