// What goes wrong between us and an API server, each with a stable code; `next` tells a person what to do.

export class KubeError extends Error {
  /**
   * `kube.config`, `kube.credentials`, `kube.unreachable`, `kube.timeout`, `kube.bad_response`, `kube.closed`,
   * `kube.started`; of answers `kube.unauthorized`, `kube.forbidden`, `kube.not_found`, `kube.conflict`, `kube.refused`.
   */
  readonly code: string;
  readonly next: string | undefined;

  constructor(code: string, message: string, options: { readonly next?: string; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'KubeError';
    this.code = code;
    this.next = options.next;
  }
}

/** What no waiting mends. */
export function configError(message: string, cause?: unknown): KubeError {
  return new KubeError('kube.config', message, { cause, next: 'name a kubeconfig and a context that exist' });
}
