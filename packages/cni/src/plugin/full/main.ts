// Entry of `ambit-cni-full`: environment and stdin in, answer on stdout, exit status; nothing else goes to stdout.
import { errorAnswer } from '../cni-answer.ts';
import { MAX_STDIN_BYTES } from '../plugin-config.ts';
import { CniError } from '../../errors.ts';
import { sendLog } from './agent-client.ts';
import { runDirOf, runFullPlugin } from './full-plugin.ts';

/** Less than kubelet's two minutes; more than thirty looks, a second apart. */
const DEADLINE_MS = 100_000;

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    const piece = Buffer.from(chunk as Uint8Array);
    bytes += piece.length;
    if (bytes > MAX_STDIN_BYTES) throw new CniError('cni.config', `stdin has more than ${MAX_STDIN_BYTES} bytes`);
    chunks.push(piece);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function run(): Promise<{ readonly status: number; readonly stdout: string }> {
  try {
    const stdin = await readStdin();
    const answer = await runFullPlugin({ env: process.env, stdin }, AbortSignal.timeout(DEADLINE_MS));
    const { command, pod, outcome, why } = answer;
    if (command !== 'ADD' || outcome === 'passed') return answer;
    const level = outcome === 'failed' ? 'error' : 'info';
    const message = outcome === 'failed' ? 'Pod not let in' : 'Pod enrolled';
    const fields = { pod, why };
    process.stderr.write(`${JSON.stringify({ level, msg: message, ...fields })}\n`);
    const runDir = runDirOf(stdin);
    if (runDir !== undefined) await sendLog(runDir, { level, message, fields });
    return answer;
  } catch (error) {
    return errorAnswer(error);
  }
}

const { status, stdout } = await run();
// The status counts once all is written: a pipe takes its time.
process.stdout.write(stdout, () => process.exit(status));
