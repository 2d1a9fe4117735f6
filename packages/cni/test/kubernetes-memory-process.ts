// A process that follows an API server as an agent does, and says what that takes: argv is a kubeconfig and how many pods there
// are. Prints resident MB after loading and after the lists, then ends.
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { SILENT_LOG } from '@ambit/log';
import { createKubernetesPodSource } from '../src/sources/kubernetes-source.ts';

const resident = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? Number.NaN) / 1024;

const [, , kubeconfig, pods] = process.argv;
const before = resident();
const source = createKubernetesPodSource({ kubeconfig, nodeName: 'n1', log: SILENT_LOG });
const ignore = (): void => undefined;
await source.start({ onPod: ignore, onPodGone: ignore, onNamespace: ignore }, AbortSignal.timeout(20_000));
const after = resident();
if ([...source.pods()].length !== Number(pods)) throw new Error('these are not all pods');
process.stdout.write(`${before.toFixed(1)} ${after.toFixed(1)}\n`);
await source.close();
flushCompileCache();
