/** The part of an entry in package-lock.json's `packages` that completing it reads and writes. */
export interface LockEntry {
  version?: string;
  optionalDependencies?: Record<string, string>;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  dev?: boolean;
  optional?: boolean;
}
export function complete(packages: Record<string, LockEntry>): { packages: Record<string, LockEntry>; added: string[] };
