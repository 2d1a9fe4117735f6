// What a failed request to the API server is called: codes for us, one sentence for a person.
import { KubeError } from './errors.ts';
import { at, textAt } from './json.ts';

/** An answer that is not 2xx, with what the server says in its Status object. */
export interface KubeRefusal {
  readonly status: number;
  /** `Forbidden`, `NotFound`, `Expired`, `Conflict`, `AlreadyExists`…; may be empty. */
  readonly reason: string;
  readonly message: string;
}

export function refusalOf(status: number, body: unknown): KubeRefusal {
  const message = textAt(body, 'message');
  return {
    status,
    reason: textAt(body, 'reason'),
    message: message === '' ? `HTTP ${String(status)}` : message.slice(0, 500),
  };
}

/** Whether the server says that a version or a continue token is too old to go on from. */
export function isExpired(body: unknown, status = 0): boolean {
  const reason = textAt(body, 'reason');
  return status === 410 || at(body, 'code') === 410 || reason === 'Expired' || reason === 'Gone';
}

/** `kube.forbidden`, `kube.unauthorized`, `kube.not_found`, `kube.conflict`, else `kube.refused`. */
export function codeOf(status: number): string {
  switch (status) {
    case 401:
      return 'kube.unauthorized';
    case 403:
      return 'kube.forbidden';
    case 404:
      return 'kube.not_found';
    case 409:
      return 'kube.conflict';
    default:
      return 'kube.refused';
  }
}

export function refusalError(what: string, status: number, body: unknown): KubeError {
  const { message } = refusalOf(status, body);
  return new KubeError(codeOf(status), `the API server refused to ${what}: ${message}`);
}
