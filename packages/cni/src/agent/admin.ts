// What the agent's admin socket answers: how it is, how each pod stands. Other parts (audit, this machine's mesh) add routes of
// their own. JSON both ways; the socket's permissions (0600) are the authorisation.
import type { AuditSubject } from '../audit/audit-types.ts';
import type { Log } from '@ambit/log';
import { type DoorAnswer, type DoorRequest, HttpDoor, json } from './doors/http-door.ts';
import type { Enrolment } from './enrolment.ts';

export interface AdminRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** The body as JSON; undefined: there was none. */
  readonly body: unknown;
  readonly signal: AbortSignal;
}

export interface AdminAnswer {
  readonly status: number;
  readonly json: object;
}

/** undefined: not a path of this route. */
export type AdminRoute = (request: AdminRequest) => Promise<AdminAnswer | undefined> | AdminAnswer | undefined;

export interface AdminOptions {
  readonly path: string;
  readonly routes: readonly AdminRoute[];
  readonly log: Log;
}

export const ADMIN_SOCKET = 'agent.sock';
const MAX_BODY_BYTES = 256 * 1024;
const MAX_CONNECTIONS = 64;
/** A whole audit with its canaries takes a while. */
const TIMEOUT_MS = 120_000;

/** @throws CniError cni.config */
export async function openAdmin({ path, routes, log }: AdminOptions): Promise<HttpDoor> {
  return HttpDoor.open({
    where: { path, mode: 0o600 },
    maxBodyBytes: MAX_BODY_BYTES,
    maxConnections: MAX_CONNECTIONS,
    timeoutMs: TIMEOUT_MS,
    log,
    answer: async request => answer(routes, request),
  });
}

async function answer(routes: readonly AdminRoute[], request: DoorRequest): Promise<DoorAnswer> {
  let body: unknown;
  try {
    body = request.body === '' ? undefined : JSON.parse(request.body);
  } catch {
    return json(400, { code: 'admin.bad_request', message: 'the body is no JSON' });
  }
  for (const route of routes) {
    const answered = await route({ ...request, body });
    if (answered !== undefined) return json(answered.status, answered.json);
  }
  return json(404, { code: 'admin.not_found', message: `no such path: ${request.method} ${request.path}` });
}

export interface PodsRouteDeps {
  readonly audit: AuditSubject;
  readonly enrolment: Enrolment;
  /** Everything that is worth knowing of the agent itself. */
  readonly status: () => object;
}

export function agentRoutes({ audit, enrolment, status }: PodsRouteDeps): AdminRoute {
  return ({ method, path }) => {
    if (method !== 'GET') return undefined;
    if (path === '/v1/status') return { status: 200, json: status() };
    if (path !== '/v1/pods') return undefined;
    const pods = audit.pods().map(({ pod, status: podStatus, since }) => {
      const membership = enrolment.membershipOf(pod);
      const entry = enrolment.entry(pod.uid);
      const problem = entry?.problem;
      return {
        uid: pod.uid,
        namespace: pod.namespace,
        name: pod.name,
        serviceAccount: pod.serviceAccount,
        ips: pod.ips,
        member: membership?.member ?? null,
        why: membership?.why ?? `namespace ${pod.namespace} is not known`,
        status: podStatus,
        state: entry?.state.kind ?? 'outside',
        since: since.toISOString(),
        netns: entry?.state.held?.path ?? null,
        problem: problem === undefined ? null : { code: problem.code, message: problem.message, next: problem.next },
      };
    });
    return { status: 200, json: { pods } };
  };
}
