// Something that keeps a resource, or one object of it, from being as the API server has it.

export interface KubeProblem {
  /** Stable, dotted: `kube.forbidden`, `kube.timeout`. */
  readonly code: string;
  readonly severity: 'error';
  /** One sentence: what is wrong, with the values. */
  readonly message: string;
  /** What to do about it. */
  readonly remedy: string;
}
