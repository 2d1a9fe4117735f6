// Answers requests of container runtimes by the CNI specification, given what the node agent can do (agent/hooks.ts). No
// I/O of its own. A pod that belongs to the mesh, or of which that cannot be found out, does not start without it: its ADD
// fails. DEL always succeeds: the agent learns from its sources that a pod is gone, and a pod must be able to go.
import type { CniHooks } from '../agent/hooks.ts';
import { CniError } from '../errors.ts';
import { podName } from '../pod/agent-pod.ts';
import { type Attachment, type CniEnvironment, readAttachment } from './attachment.ts';
import { type CniAnswer, CNI_CODE, errorAnswer, failure, NOTHING, resultAnswer } from './cni-answer.ts';
import { readPrevResult } from './cni-result.ts';
import { CNI_VERSIONS, type CniVersion, isCniVersion, NEWEST_CNI_VERSION, requireCommand } from './cni-version.ts';
import { type PluginConfig, readJsonObject, readPluginConfig, STATUS_OF, STATUS_OF_MEMBERS } from './plugin-config.ts';

export interface CniRequest {
  readonly env: CniEnvironment;
  readonly stdin: string;
}

/** What came of a request, for logs and counters. */
export interface HandledCni extends CniAnswer {
  readonly command: string;
  /** `namespace/name`, when the request got as far. */
  readonly pod?: string;
  readonly outcome: 'enrolled' | 'passed' | 'failed';
  /** Why it passed or failed. */
  readonly why?: string;
}

/** The agent's own pods must start while there is no agent; upstream's name and ours. */
const OWN_PODS = ['istio-cni-node-', 'ambit-agent-'];

/** Never rejects. @param signal ends when the runtime has given up */
export async function handleCni(request: CniRequest, hooks: CniHooks, signal: AbortSignal): Promise<HandledCni> {
  const command = request.env['CNI_COMMAND'] ?? '';
  let version: CniVersion = NEWEST_CNI_VERSION;
  let pod: string | undefined;
  try {
    if (command === 'DEL') return passed(command, NOTHING);
    if (command === 'VERSION') return passed(command, versionAnswer(request.stdin));
    const config = readPluginConfig(request.stdin);
    version = config.version;
    requireCommand(command, version);
    switch (command) {
      case 'ADD':
      case 'CHECK': {
        const attachment = readAttachment(request.env);
        if (attachment.podName !== '') pod = podName({ namespace: attachment.podNamespace, name: attachment.podName });
        return await (command === 'ADD' ? add : check)(config, attachment, hooks, signal);
      }
      case 'GC':
        return await collect(config, hooks);
      case 'STATUS':
        return status(config, hooks);
      default:
        throw new CniError('cni.argument', `there is no CNI command ${JSON.stringify(command.slice(0, 40))}`, {
          next: 'set CNI_COMMAND to ADD, DEL, CHECK, GC, STATUS or VERSION',
        });
    }
  } catch (error) {
    const answer = errorAnswer(error, version, pod === undefined ? undefined : `pod ${pod}`);
    const why = error instanceof Error ? error.message : String(error);
    return { ...answer, command, outcome: 'failed', why, ...(pod !== undefined && { pod }) };
  }
}

/** Why a pod is none of ours without asking anybody. */
export function notOurs(config: PluginConfig, { podName: name, podNamespace }: Attachment): string | undefined {
  if (!config.isAmbientEnabled) return 'the mesh is switched off in the configuration';
  if (name === '' || podNamespace === '') return 'it is no pod of Kubernetes';
  if (podNamespace === config.agentNamespace && OWN_PODS.some(prefix => name.startsWith(prefix))) {
    return "it is the agent's own pod";
  }
  return config.excludedNamespaces.includes(podNamespace) ? `namespace ${podNamespace} is excluded` : undefined;
}

/** The answer to VERSION. @throws CniError cni.protocol */
export function versionAnswer(stdin: string): CniAnswer {
  const asked = stdin.trim() === '' ? undefined : readJsonObject(stdin)['cniVersion'];
  return resultAnswer({
    cniVersion: isCniVersion(asked) ? asked : NEWEST_CNI_VERSION,
    supportedVersions: CNI_VERSIONS,
  });
}

async function add(config: PluginConfig, attachment: Attachment, hooks: CniHooks, signal: AbortSignal) {
  const { ips, output } = readPrevResult(config.raw['prevResult'], config.version);
  const answer = resultAnswer(output);
  const member = await memberOf(config, attachment, hooks, signal);
  if (member.kind === 'outsider') return passed('ADD', answer, attachment, member.why);
  await hooks.enrol(member.pod, ips, attachment.netnsPath, signal);
  return { ...passed('ADD', answer, attachment), outcome: 'enrolled' as const };
}

async function check(config: PluginConfig, attachment: Attachment, hooks: CniHooks, signal: AbortSignal) {
  const member = await memberOf(config, attachment, hooks, signal);
  if (member.kind === 'outsider') return passed('CHECK', NOTHING, attachment, member.why);
  const problems = await hooks.check(member.pod, attachment.netnsPath);
  if (problems.length === 0) return passed('CHECK', NOTHING, attachment);
  throw new CniError('enrol.rules', `not as it should be: ${problems.join('; ')}`, {
    next: 'the agent repairs this by itself; if it stays, see ambit audit',
  });
}

async function memberOf(config: PluginConfig, attachment: Attachment, hooks: CniHooks, signal: AbortSignal) {
  const why = notOurs(config, attachment);
  if (why !== undefined) return { kind: 'outsider' as const, why };
  const member = await hooks.lookup(attachment.podNamespace, attachment.podName, signal, attachment.podUid);
  if (member.kind !== 'unknown') return member;
  throw new CniError('enrol.unknown_pod', `cannot find out whether it belongs to the mesh: ${member.why}`, {
    next: 'the runtime tries again; if this stays, see whether the node agent reaches the API server',
  });
}

/**
 * Code 50 makes a node "network not ready", and kubelet then starts none but host-network pods: no ztunnel and no agent, whose
 * absence would be the reason. So a runtime hears that ADDs are served, which is true (pods outside the mesh start). Who asks
 * with `ambit_status: members` hears whether members would.
 */
function status(config: PluginConfig, hooks: CniHooks): HandledCni {
  const isAboutMembers = config.raw[STATUS_OF] === STATUS_OF_MEMBERS;
  const why = config.isAmbientEnabled && isAboutMembers ? hooks.notReady() : undefined;
  if (why === undefined) return passed('STATUS', NOTHING);
  const answer = failure(CNI_CODE.cannotServe, `ambit: pods of the mesh cannot start: ${why}`, config.version);
  return { ...answer, command: 'STATUS', outcome: 'failed', why };
}

/**
 * A list that is missing (cnitool) is not an empty one: taking it for that would make us forget every pod, so nothing is done.
 * Go writes an empty list as null.
 */
async function collect({ raw }: PluginConfig, hooks: CniHooks): Promise<HandledCni> {
  const key = ['cni.dev/valid-attachments', 'cni.dev/attachments'].find(name => Object.hasOwn(raw, name));
  if (key === undefined) return passed('GC', NOTHING, undefined, 'it does not say which containers there are');
  await hooks.collect(containerIds(raw[key] ?? []));
  return passed('GC', NOTHING);
}

function containerIds(list: unknown): readonly string[] {
  const bad = new CniError('cni.config', 'GC comes without a proper list "cni.dev/valid-attachments"');
  if (!Array.isArray(list)) throw bad;
  return list.map((item: unknown) => {
    const id = typeof item === 'object' && item !== null && 'containerID' in item ? item.containerID : undefined;
    if (typeof id !== 'string') throw bad;
    return id;
  });
}

function passed(command: string, answer: CniAnswer, attachment?: Attachment, why?: string): HandledCni {
  const pod =
    attachment === undefined || attachment.podName === ''
      ? undefined
      : podName({ namespace: attachment.podNamespace, name: attachment.podName });
  return {
    ...answer,
    command,
    outcome: 'passed',
    ...(pod !== undefined && { pod }),
    ...(why !== undefined && { why }),
  };
}
