// What is wanted of reading a pod's requests: the text of one annotation on the pod, else on its namespace. Pure. ztunnel
// parses and judges it; here it is only bounded, since it travels in a packet of 1024 bytes. Telemetry fails open: a text that
// cannot travel is left out and named in a warning, and keeps nobody out of the mesh.
import type { AgentPod, PodNamespace } from './agent-pod.ts';

/** `on` and `off`, alone or with a port: `off,8080=on`. See the README. */
export const L7_ANNOTATION = 'ambit.io/l7';

/** Beside the longest names that Kubernetes allows, so much is left of a packet. */
export const MAX_L7_BYTES = 128;

export interface L7Wish {
  /** As it was written, without spaces around; undefined: nobody said anything. */
  readonly text: string | undefined;
  /** One line, for the log. */
  readonly warning: string | undefined;
}

/** An empty annotation says nothing: on a pod it hides that of its namespace. */
export function l7WishOf(pod: Pick<AgentPod, 'annotations'>, namespace: PodNamespace | undefined): L7Wish {
  const written = annotationOf(pod.annotations) ?? annotationOf(namespace?.annotations);
  const text = written?.trim() ?? '';
  if (text === '') return { text: undefined, warning: undefined };
  const length = Buffer.byteLength(text);
  if (length <= MAX_L7_BYTES) return { text, warning: undefined };
  return {
    text: undefined,
    warning: `annotation ${L7_ANNOTATION} has ${length} bytes, more than ${MAX_L7_BYTES}, and is ignored`,
  };
}

function annotationOf(annotations: PodNamespace['annotations']): string | undefined {
  return annotations !== undefined && Object.hasOwn(annotations, L7_ANNOTATION)
    ? annotations[L7_ANNOTATION]
    : undefined;
}
