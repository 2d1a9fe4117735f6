// `ambit audit`: whether every pod of this node is what it should be, as its agent proves it. Asks the agent and shows its answer.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { AuditReport } from '@ambit/cni';
import { localPaths } from '@ambit/local';
import { errorText } from '@ambit/log';
import { askSocket } from '../admin-socket.ts';
import { auditTable } from '../render/audit.ts';
import { type Output, processOutput } from '../render/output.ts';
import { problemText } from '../render/problem.ts';
import { directoriesOf, type MeshFlags } from './local-mesh.ts';

export interface AuditFlags extends MeshFlags {
  readonly node?: string;
  readonly watch?: boolean;
  readonly output: 'table' | 'json';
  /** False with --no-repair. */
  readonly repair: boolean;
  readonly socket?: string;
}

/** What is told of the place that the answer goes to. */
export interface AuditScreen {
  readonly output: Output;
  readonly isTerminal: boolean;
  readonly width: number;
}

/** As the agent has them in a cluster. */
const RUN_DIRECTORY = '/var/run/istio-cni';
const SOCKET = 'agent.sock';
/** A whole audit waits for canaries and repairs. */
const RUN_TIMEOUT_MS = 60_000;
const WATCH_PERIOD_MS = 2_000;
/** To the top left, and everything below removed. */
const CLEAR = '\u001B[H\u001B[J';

class Unreachable extends Error {
  readonly next: string;
  constructor(message: string, next: string) {
    super(message);
    this.next = next;
  }
}

/** @returns the exit status: 0 no finding, 1 some, 3 no agent, or one of another node */
export async function audit(flags: AuditFlags, screen: AuditScreen = processScreen()): Promise<number> {
  const { output } = screen;
  try {
    const socket = flags.socket ?? findSocket(flags);
    const report = await ask(socket, 'POST', flags.repair ? {} : { repair: false });
    if (flags.node !== undefined && flags.node !== report.node) {
      throw new Unreachable(
        `the agent here is that of node ${report.node}, not of ${flags.node}`,
        `run it on ${flags.node}; in a cluster: kubectl exec into the agent's pod of that node`,
      );
    }
    const last = flags.watch === true ? await watch(socket, report, flags, screen) : report;
    if (flags.watch !== true) output.answer(show(report, flags, screen));
    return last.clean ? 0 : 1;
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    output.remark(problemText({ message: error.message, code: 'cni.agent_unreachable', next: error.next }));
    return 3;
  }
}

/** Until the person has seen enough. */
async function watch(socket: string, first: AuditReport, flags: AuditFlags, screen: AuditScreen): Promise<AuditReport> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  let report = first;
  let shown = '';
  try {
    while (!stop.signal.aborted) {
      const text = show(report, flags, screen);
      const isNews = flags.output === 'json' || text !== shown;
      if (isNews) screen.output.answer(screen.isTerminal && flags.output === 'table' ? CLEAR + text : text);
      shown = text;
      await delay(WATCH_PERIOD_MS, undefined, { signal: stop.signal }).catch(() => undefined);
      if (!stop.signal.aborted) report = await ask(socket, 'GET');
    }
    return report;
  } finally {
    process.removeListener('SIGINT', onSignal);
    process.removeListener('SIGTERM', onSignal);
  }
}

function show(report: AuditReport, { output, watch: isWatched }: AuditFlags, screen: AuditScreen): string {
  if (output === 'table') return auditTable(report, screen.output.style, screen.width);
  return `${JSON.stringify(report, undefined, isWatched === true ? undefined : 2)}\n`;
}

/** The agent of a cluster's node, else that of this machine's own mesh. */
function findSocket(flags: AuditFlags): string {
  const directory = process.env['CNI_AGENT_RUN_DIR'] || RUN_DIRECTORY;
  const ofNode = join(directory, SOCKET);
  const ofMesh = localPaths(directoriesOf(flags)).agentSocket;
  if (flags.dir !== undefined) return ofMesh;
  return existsSync(ofNode) || !existsSync(ofMesh) ? ofNode : ofMesh;
}

async function ask(socket: string, method: 'GET' | 'POST', body?: object): Promise<AuditReport> {
  let answer;
  try {
    answer = await askSocket(socket, { method, path: '/v1/audit', body, timeoutMs: RUN_TIMEOUT_MS });
  } catch (error) {
    throw new Unreachable(
      `the agent of this node does not answer at ${socket}: ${errorText(error)}`,
      'run it on the node and as root, where ambit agent or ambit up runs; --socket names another place',
    );
  }
  if (answer.status !== 200) {
    const message = String(answer.json['message'] ?? `status ${answer.status}`);
    throw new Unreachable(`the agent at ${socket} refuses: ${message}`, 'is it an agent of this version?');
  }
  return answer.json as unknown as AuditReport; // our own agent's words
}

function processScreen(): AuditScreen {
  const { isTTY: isTerminal, columns } = process.stdout;
  return { output: processOutput(), isTerminal, width: isTerminal ? columns : Infinity };
}
