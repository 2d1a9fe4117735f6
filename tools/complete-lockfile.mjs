// Completes package-lock.json with the platform packages that npm leaves out when the registry it was made from does not
// carry them (binaries for macOS, Windows, musl and the like): it drops them silently, and then `npm ci` refuses the very
// lockfile that npm wrote. The entries added here say version and platform only; npm installs none of them on the
// machines Ambit runs on. Run by `npm run relock`, after npm; without arguments it checks, with --write it completes.
// Plain JavaScript for Node 20.

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { argv, exit } from 'node:process';
import { fileURLToPath } from 'node:url';

const SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const PROCESSORS = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64'];
/** How names of packages spell what npm calls otherwise. */
const SPELLINGS = {
  windows: 'win32',
  armv7: 'arm',
  armv6: 'arm',
  riscv64gc: 'riscv64',
  ppc64le: 'ppc64',
  amd64: 'x64',
};

/** The lockfile's packages, completed and sorted as npm sorts them; the names of those added. */
export function complete(packages) {
  const added = [];
  const result = { ...packages };
  for (const [path, { optionalDependencies = {}, dev }] of Object.entries(packages)) {
    for (const [name, version] of Object.entries(optionalDependencies)) {
      if (path === '' || findAbove(result, path, name)) continue;
      result[`node_modules/${name}`] = { version, ...platformOf(name), ...(dev ? { dev } : {}), optional: true };
      added.push(name);
    }
  }
  return { packages: Object.fromEntries(Object.entries(result).sort(byPath)), added };
}

function byPath([a], [b]) {
  return a.localeCompare(b, 'en');
}

/** True if Node's lookup from the package at `path` would find `name`. */
function findAbove(packages, path, name) {
  for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    if (packages[`${folder === '' ? '' : `${folder}/`}node_modules/${name}`] !== undefined) return true;
    if (folder === '') return false;
  }
}

/** What npm must know to pass over the package, read off its name as the makers of such packages write it. */
function platformOf(name) {
  const words = name.split(/[^a-z0-9]+/).map(word => SPELLINGS[word] ?? word);
  const os = words.filter(word => SYSTEMS.includes(word));
  const cpu = words.filter(word => PROCESSORS.includes(word) || /^armv?\d|^arm$/.test(word)).map(cpuName);
  const libc = words.some(word => word.startsWith('musl')) ? ['musl'] : [];
  if (os.length !== 1) throw new Error(`cannot tell the platform of ${name} from its name`);
  const isForOthers = os[0] !== 'linux' || libc.length > 0 || !cpu.some(one => one === 'x64' || one === 'arm64');
  if (!isForOthers) throw new Error(`${name} is for a machine that Ambit supports, but the registry does not have it`);
  return { ...(cpu.length > 0 ? { cpu } : {}), ...(libc.length > 0 ? { libc } : {}), os };
}

function cpuName(word) {
  return PROCESSORS.includes(word) ? word : 'arm';
}

if (argv[1] !== undefined && resolve(argv[1]) === fileURLToPath(import.meta.url)) {
  const path = join(dirname(fileURLToPath(import.meta.url)), '../package-lock.json');
  const lock = JSON.parse(readFileSync(path, 'utf8'));
  const { packages, added } = complete(lock.packages);
  if (added.length > 0 && !argv.includes('--write')) {
    console.error(
      `error: package-lock.json lacks ${added.length} platform packages, so npm ci will refuse it\n  next  npm run relock`,
    );
    exit(1);
  }
  if (added.length > 0) writeFileSync(path, `${JSON.stringify({ ...lock, packages }, undefined, 2)}\n`);
  console.log(`package-lock.json is complete, ${added.length} platform packages added`);
}
