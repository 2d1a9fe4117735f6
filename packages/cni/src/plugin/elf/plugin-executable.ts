// Makes the file that the installer puts into the CNI directory of a host: an executable of about three kilobytes that needs
// nothing there and takes a fraction of a millisecond, since it is started for every pod and starting a runtime costs more
// than everything else. It asks the node agent on a Unix socket and holds no logic of its own; see plugin-program.ts.
import { CniError } from '../../errors.ts';
import { CNI_CODE, failure } from '../cni-answer.ts';
import { MAX_ENVIRONMENT_BYTES } from '../frame.ts';
import { NEWEST_CNI_VERSION } from '../cni-version.ts';
import { MAX_STDIN_BYTES } from '../plugin-config.ts';
import { Arm64Machine } from './arm64-machine.ts';
import { CodeBuffer } from './code-buffer.ts';
import { type Architecture, type DataPiece, linkExecutable } from './elf-file.ts';
import {
  failureLabel,
  PLUGIN_DATA,
  PLUGIN_FAILURES,
  PLUGIN_ROOM_BYTES,
  type PluginFailure,
  writePluginProgram,
} from './plugin-program.ts';
import { X64Machine } from './x64-machine.ts';

export interface PluginExecutableOptions {
  readonly architecture: Architecture;
  /** On the host; at most 107 bytes, as the kernel has it. */
  readonly socketPath: string;
  /** What runs instead when nobody listens: absolute path of a program and its arguments. Without it the plugin fails. */
  readonly fallback?: readonly [path: string, ...args: string[]];
  /** For each step of the conversation. Default 90 s: below the two minutes after which kubelet gives up. */
  readonly timeoutS?: number;
}

const AF_UNIX = 1;
const MAX_SOCKET_PATH = 107;
const DEFAULT_TIMEOUT_S = 90;

/** @throws CniError cni.config when a path cannot be used */
export function pluginExecutable(options: PluginExecutableOptions): Uint8Array<ArrayBuffer> {
  const { architecture, socketPath, fallback, timeoutS = DEFAULT_TIMEOUT_S } = options;
  for (const text of [socketPath, ...(fallback ?? [])]) {
    if (text.includes('\0')) throw new CniError('cni.config', `not a path: ${JSON.stringify(text)}`);
  }
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH || !socketPath.startsWith('/')) {
    throw new CniError('cni.config', `the agent's socket cannot be at ${socketPath}`, {
      next: `choose an absolute path of at most ${MAX_SOCKET_PATH} bytes`,
    });
  }
  const address = Buffer.concat([Buffer.of(AF_UNIX, 0), terminated(socketPath)]);
  const failures = failureTexts(options, timeoutS);
  const code = new CodeBuffer();
  writePluginProgram(architecture === 'x64' ? new X64Machine(code) : new Arm64Machine(code), {
    socketAddressBytes: address.length,
    failures: failures.map(({ name, bytes }) => ({ name, bytes: bytes.length })),
    hasFallback: fallback !== undefined,
  });
  const data: readonly DataPiece[] = [
    { label: PLUGIN_DATA.address, content: address },
    { label: PLUGIN_DATA.timeout, content: timeval(timeoutS) },
    ...failures.map(({ name, bytes }) => ({ label: failureLabel(name), content: bytes })),
    ...(fallback === undefined ? [] : fallbackData(fallback)),
  ];
  return linkExecutable(architecture, code, data, PLUGIN_ROOM_BYTES);
}

/** The path, which is also the first argument, the others, and the list of them all that ends with a null pointer. */
function fallbackData(fallback: readonly string[]): readonly DataPiece[] {
  const label = (i: number) => (i === 0 ? PLUGIN_DATA.fallbackPath : `fallbackArgument${i}`);
  return [
    ...fallback.map((argument, i) => ({ label: label(i), content: terminated(argument) })),
    { label: PLUGIN_DATA.fallbackArguments, content: [...fallback.map((_, i) => label(i)), undefined] },
  ];
}

function failureTexts({ socketPath, fallback }: PluginExecutableOptions, timeoutS: number) {
  const log = 'the runtime tries again; see the log of the node agent';
  const start = 'start the node agent (DaemonSet istio-cni-node or ambit-agent), or take the plugin out of the chain';
  const besides = fallback === undefined ? '' : `, and ${fallback[0]} cannot be run instead`;
  const say: Readonly<Record<PluginFailure, readonly [code: number, msg: string, next: string]>> = {
    environmentTooLarge: [
      CNI_CODE.invalidEnvironment,
      `the CNI_ variables have more than ${MAX_ENVIRONMENT_BYTES} bytes`,
      'look at what the container runtime passes in CNI_ARGS',
    ],
    inputTooLarge: [
      CNI_CODE.invalidConfig,
      `the network configuration has more than ${MAX_STDIN_BYTES} bytes`,
      'look at the files in /etc/cni/net.d',
    ],
    inputUnreadable: [CNI_CODE.io, 'the network configuration on stdin cannot be read', log],
    noAgent: [CNI_CODE.tryAgainLater, `no node agent listens on ${socketPath}${besides}`, start],
    noAnswer: [CNI_CODE.tryAgainLater, 'the node agent hung up without a whole answer', log],
    late: [CNI_CODE.tryAgainLater, `the node agent on ${socketPath} gave no answer in ${timeoutS} s`, log],
  };
  return PLUGIN_FAILURES.map(name => {
    const [code, msg, next] = say[name];
    // Which version the network has is not known here; errors look the same in all of them.
    const { stdout } = failure(code, `ambit: ${msg}`, NEWEST_CNI_VERSION, `next: ${next}`);
    return { name, bytes: Buffer.from(stdout) };
  });
}

function terminated(text: string): Uint8Array {
  return Buffer.from(`${text}\0`);
}

/** struct timeval: seconds and microseconds, eight bytes each. */
function timeval(seconds: number): Uint8Array {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(Math.floor(seconds), 0);
  bytes.writeUInt32LE(Math.round((seconds % 1) * 1e6), 8);
  return bytes;
}
