// Brings node_modules in line with package-lock.json, if it is not already: with `npm ci` and no install scripts.
// `--system` also looks for the Debian packages that the end-to-end tests use. Used by ./ambit and `npm test`.
// Plain JavaScript for Node 20: it runs before anything is installed.

import { spawn } from 'node:child_process';
import { accessSync, constants, copyFileSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { argv, env, exit, versions } from 'node:process';
import { fileURLToPath } from 'node:url';
import { withInstallLock } from './install-lock.mjs';
import { step } from './progress.mjs';
import { checkSystemPackages } from './system-packages.mjs';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const lockfile = join(root, 'package-lock.json');
/** A copy of the lockfile that node_modules was last installed from; `./ambit` compares the two. */
const stamp = join(root, 'node_modules/.ambit-lock');

/** The Node that everything of Ambit runs on, whatever the system has. */
export const pinnedNode = join(root, 'node_modules/.bin/node');

/** Why an installation did not come about, for a person; `next` says what to do. */
export class SetupError extends Error {
  constructor(message, next) {
    super(message);
    this.next = next;
  }
}

/** Installs the dependencies if they are not those of the lockfile. Touches no network when they are. */
export async function installDependencies() {
  if (isInstalled()) return;
  const onWait = () => console.error('  waiting for another ambit that is installing');
  await withInstallLock(root, onWait, async () => {
    // Whoever had the lock before us may have done the work.
    if (isInstalled()) return;
    if (!matchesHiddenLockfile()) await npmCi();
    if (!isExecutable(pinnedNode)) {
      const isSupported = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
      throw new SetupError(
        `the pinned Node for ${process.platform} on ${process.arch} is not among the installed dependencies`,
        // npm passes over an optional package whose download fails.
        isSupported ? 'npm passed over it: remove node_modules and run this again' : 'use Linux on x64 or arm64',
      );
    }
    copyFileSync(lockfile, stamp);
  });
}

function isInstalled() {
  return existsSync(stamp) && readFileSync(stamp).equals(readFileSync(lockfile)) && isExecutable(pinnedNode);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The packages that npm will put on this machine: path below the root -> version. */
function wantedPackages() {
  const { packages } = JSON.parse(readFileSync(lockfile, 'utf8'));
  const fits = (list, value) => list === undefined || list.includes(value);
  return Object.entries(packages).filter(
    ([path, { os, cpu, libc, link, optional }]) =>
      path.includes('node_modules/') &&
      link !== true &&
      // Optional ones for another machine stay away. The pinned Node is made for glibc, so that is what we run on.
      !(optional === true && !(fits(os, process.platform) && fits(cpu, process.arch) && fits(libc, 'glibc'))),
  );
}

/** True if somebody ran npm by hand and its own record of node_modules says the same as the lockfile. */
function matchesHiddenLockfile() {
  const hidden = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(hidden)) return false;
  const { packages } = JSON.parse(readFileSync(hidden, 'utf8'));
  return wantedPackages().every(
    ([path, { version, optional }]) =>
      packages[path]?.version === version || (optional && packages[path] === undefined),
  );
}

async function npmCi() {
  const wanted = wantedPackages().map(([path]) => join(root, path, 'package.json'));
  rmSync(stamp, { force: true });
  await step('install dependencies', async say => {
    // Where `npm run` put our own node_modules/.bin first, npm would run on a Node that it is about to replace.
    const ownBin = join(root, 'node_modules/.bin');
    const PATH = (env['PATH'] ?? '')
      .split(delimiter)
      .filter(folder => resolve(folder) !== ownBin)
      .join(delimiter);
    const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    const child = spawn('npm', args, { cwd: root, env: { ...env, PATH }, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', chunk => {
        output = (output + chunk).slice(-20_000);
      });
    }
    const timer = setInterval(() => say(`${wanted.filter(existsSync).length} of ${wanted.length} packages`), 200);
    // npm would finish unpacking and then roll back, which takes as long as installing. The next run starts afresh anyway.
    let interrupt = '';
    const onInterrupt = signal => {
      interrupt = signal;
      child.kill('SIGKILL');
    };
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, onInterrupt);
    const ended = await new Promise(done => {
      child.on('error', error => done(error.code === 'ENOENT' ? 'npm is missing' : error.message));
      child.on('close', (code, signal) =>
        done(code === 0 ? undefined : `npm ended with ${signal ?? `status ${code}`}`),
      );
    });
    for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, onInterrupt);
    clearInterval(timer);
    if (ended === undefined) {
      say(`${wanted.filter(existsSync).length} packages`);
      return;
    }
    if (interrupt !== '') throw new SetupError(`interrupted by ${interrupt}`, 'run this again to start afresh');
    const next =
      ended === 'npm is missing'
        ? 'install npm (Debian: apt install npm), then run this again'
        : 'check that the npm registry can be reached (npm ping) and that the disk has 500 MB left, then run this again';
    throw new SetupError(`could not install the dependencies: ${ended}\n${essence(output.trim())}`, next);
  });
}

/** The lines that say something to a person: no stack frames, the first and the last of many. */
function essence(text) {
  const lines = text.split('\n').filter(line => line !== '' && !/^npm error\s*(at .*)?$/.test(line));
  return [...lines.slice(0, 6), ...lines.slice(6).slice(-6)].map(line => `  ${line}`).join('\n');
}

async function main() {
  if (Number(versions.node.split('.')[0]) < 20) {
    throw new SetupError(`Node ${versions.node} is too old`, 'install Node.js 20 or newer, then run this again');
  }
  await installDependencies();
  if (argv.includes('--system')) await checkSystemPackages();
}

if (argv[1] !== undefined && resolve(argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch(error => {
    if (!(error instanceof SetupError)) throw error;
    console.error(`error: ${error.message}\n  next  ${error.next}`);
    exit(3);
  });
}
