// A node agent as a process of its own, as the tests start and kill it: the product's `runAgent`, told of pods by its parent
// over IPC. argv[2]: flags as JSON.
import type { AgentPod } from '../src/pod/agent-pod.ts';
import { runAgent } from '../src/main.ts';
import { ListSource } from './list-source.ts';

export type Word =
  | { readonly kind: 'put'; readonly pod: AgentPod }
  | { readonly kind: 'drop'; readonly uid: string }
  | { readonly kind: 'label'; readonly name: string; readonly isAmbient: boolean }
  /** What there is has been told; the agent may start. */
  | { readonly kind: 'start' };

const source = new ListSource();
const started = Promise.withResolvers<void>();
process.on('message', (word: Word) => {
  switch (word.kind) {
    case 'put':
      return source.put(word.pod);
    case 'drop':
      return source.drop(word.uid);
    case 'label':
      return source.label(word.name, word.isAmbient);
    case 'start':
      return started.resolve();
  }
});
await started.promise;
const flags = JSON.parse(process.argv[2] ?? '{}') as Record<string, string>;
process.exitCode = await runAgent({ flags, env: {}, sources: () => [source] });
process.disconnect();
