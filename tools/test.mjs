// `npm test`: sets up what is missing, then hands over to tools/test-run.ts on the pinned Node.
// Plain JavaScript for Node 20: on a fresh clone this is the first thing that runs.

import { spawn } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { argv, env, exit, kill, pid } from 'node:process';
import { fileURLToPath } from 'node:url';
import { installDependencies, pinnedNode, SetupError } from './setup.mjs';
import { checkSystemPackages } from './system-packages.mjs';

const args = argv.slice(2);
const folder = dirname(fileURLToPath(import.meta.url));

try {
  await installDependencies();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`error: ${error.message}\n  next  ${error.next}`);
  exit(3);
}
if (!args.includes('--unit') && !args.includes('--help')) await checkSystemPackages();

// Tests and tools start `node` by name; they must get the pinned one however this was started.
const PATH = `${resolve(folder, '../node_modules/.bin')}:${env.PATH ?? '/usr/bin:/bin'}`;
const run = spawn(pinnedNode, [join(folder, 'test-run.ts'), ...args], { stdio: 'inherit', env: { ...env, PATH } });
// A terminal sends Ctrl-C to the run as well; others send signals to this process only.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => run.kill('SIGTERM'));
run.on('error', error => {
  console.error(`error: cannot start ${pinnedNode}: ${error.message}\n  next  remove node_modules and run this again`);
  exit(3);
});
run.on('exit', (code, signal) => {
  if (signal === null) exit(code ?? 1);
  process.removeAllListeners(signal);
  kill(pid, signal);
});
