// What `ambit ca` asks of a running control plane, as JSON over its admin socket. The socket's permissions (0600) are the
// authorisation: whoever can open it can read the root's key beside it. This only reads requests and shapes answers.
import { formatSpiffeId } from '@ambit/mesh';
import * as z from 'zod';
import type { LocalTokens } from '../auth/local-token.ts';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';
import type { ListedCertificate } from './authority-types.ts';
import type { CertificateAuthority } from './certificate-authority.ts';

export interface AdminAnswer {
  readonly status: number;
  /** An object; errors have `code`, `message` and perhaps `next`. */
  readonly json: object;
}

/** Undefined: not a route of ours. Never rejects. */
export type AdminRoute = (method: string, path: string, body: unknown) => Promise<AdminAnswer | undefined>;

const REVOKE = z.union([
  z.strictObject({ serial: z.string().regex(/^(?:0x)?[0-9a-f:]{1,128}$/i) }),
  z.strictObject({ identity: z.string().max(2048).startsWith('spiffe://') }),
]);
const NAME = z.string().regex(/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/);
const TOKEN = z.strictObject({
  namespace: NAME,
  serviceAccount: NAME,
  node: NAME.optional(),
  ttlSeconds: z.number().int().positive().optional(),
});

/** Routes: POST /ca/revoke, GET /ca/certificates, POST /ca/rotate-root, POST /ca/token, GET /ca/crl, GET /ca/status. */
export function caAdminRoutes(ca: CertificateAuthority, tokens: LocalTokens): AdminRoute {
  const routes: Readonly<Record<string, (body: unknown) => Promise<object> | object>> = {
    'GET /ca/status': () => ca.status,
    'GET /ca/certificates': () => ({ status: ca.status, certificates: ca.list().map(toJson) }),
    'GET /ca/crl': () => ({ crl: ca.crlPem }),
    'POST /ca/revoke': async body => {
      const revoked = await ca.revoke(REVOKE.parse(body));
      return { revoked: revoked.map(each => toJson({ ...each, isRevoked: true })) };
    },
    'POST /ca/rotate-root': () => ca.rotateRoot(),
    'POST /ca/token': async body => {
      const { namespace, serviceAccount, node, ttlSeconds } = TOKEN.parse(body);
      const ttlMs = ttlSeconds === undefined ? undefined : ttlSeconds * 1000;
      const { token, expiresAtMs, id } = await tokens.issue({ namespace, serviceAccount, node, ttlMs });
      const requested = formatSpiffeId({ trustDomain: ca.trustDomain, namespace, serviceAccount });
      ca.granted({ event: 'token', requested, serial: id, notAfterMs: expiresAtMs, reason: `node ${node ?? 'none'}` });
      return { token, expiresAt: new Date(expiresAtMs).toISOString() };
    },
  };
  return async (method, path, body) => {
    const key = `${method} ${path}`;
    const route = Object.hasOwn(routes, key) ? routes[key] : undefined;
    if (route === undefined) return undefined;
    try {
      return { status: 200, json: await route(body) };
    } catch (error) {
      return toFailure(error);
    }
  };
}

function toFailure(error: unknown): AdminAnswer {
  if (error instanceof z.ZodError) {
    return { status: 400, json: { code: 'ca.bad_request', message: z.prettifyError(error) } };
  }
  if (error instanceof ControlError) {
    const status = error.code.startsWith('ca.unknown_') ? 404 : error.code === 'ca.rotation' ? 409 : 500;
    return { status, json: { code: error.code, message: error.message, next: error.next } };
  }
  return { status: 500, json: { code: 'ca.state', message: errorText(error) } };
}

function toJson({ serial, identity, node, issuedAtMs, notAfterMs, isRevoked }: ListedCertificate): object {
  const issuedAt = new Date(issuedAtMs).toISOString();
  return { serial, identity, node, issuedAt, notAfter: new Date(notAfterMs).toISOString(), isRevoked };
}
