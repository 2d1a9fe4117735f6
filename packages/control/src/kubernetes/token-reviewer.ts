// Proves service account tokens by asking the API server (TokenReview), as istiod does. Fails closed: no answer, an
// answer for another audience, or one that is no service account lets nobody in. Verdicts are remembered for a minute at
// most, by the token's hash, never the token; so a deleted pod's token lives on here for as long.
import { createHash } from 'node:crypto';
import { at, isObject, type KubeClient, refusalOf, textAt, textsAt } from '@ambit/kube';
import { errorText, type Log } from '@ambit/log';
import type { AuthOutcome, Authenticator, Caller, Credentials } from '../auth/caller.ts';

export interface TokenReviewerOptions {
  readonly client: KubeClient;
  readonly trustDomain: string;
  /** Callers that name another cluster are refused; those that name none mean this one. */
  readonly clusterId: string;
  /** The token must be for one of these. Default `istio-ca`. */
  readonly audiences?: readonly string[];
  readonly log: Log;
  /** How long a proven caller is remembered; at most 60 s, the default. */
  readonly cacheMs?: number;
  /** How many verdicts of each kind are remembered. Default 10 000; the oldest goes. */
  readonly maxEntries?: number;
  /** How many reviews run at once; further callers are told to come again. Default 64. */
  readonly maxPending?: number;
  /** Of these for one address: a stranger with ever new tokens must not take everybody's places. Default 8. */
  readonly maxPendingOfPeer?: number;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

interface Verdict {
  readonly outcome: AuthOutcome;
  readonly untilMs: number;
}

const MAX_CACHE_MS = 60_000;
/** Refusals are remembered for less: a token may become good when the API server's caches catch up. */
const MAX_REFUSED_MS = 10_000;
/** Real ones are about 1 KiB. */
const MAX_TOKEN_BYTES = 16 * 1024;
const REVIEW_TIMEOUT_MS = 10_000;
const EXTRA = 'authentication.kubernetes.io/';
const NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

export function createTokenReviewer(options: TokenReviewerOptions): Authenticator {
  const { client, trustDomain, clusterId, audiences = ['istio-ca'], maxEntries = 10_000, maxPending = 64 } = options;
  const { maxPendingOfPeer = 8 } = options;
  const now = options.now ?? Date.now;
  const log = options.log.scope('token-review');
  const cacheMs = Math.min(options.cacheMs ?? MAX_CACHE_MS, MAX_CACHE_MS);
  // Apart, so that no flood of bad tokens drives the good ones out.
  const verdicts = { caller: new Map<string, Verdict>(), refused: new Map<string, Verdict>() };
  const pending = new Map<string, Promise<AuthOutcome>>();
  const pendingOf = new Map<string, number>();

  const remember = (key: string, token: string, outcome: AuthOutcome): void => {
    if (outcome.kind === 'refused' && outcome.code === 'auth.unavailable') return;
    const forMs = outcome.kind === 'caller' ? cacheMs : Math.min(cacheMs, MAX_REFUSED_MS);
    // An expired token is not good because it was: `exp` only ever shortens, so it need not be trusted.
    const untilMs = Math.min(now() + forMs, expiryMs(token) ?? Infinity);
    const kept = verdicts[outcome.kind];
    kept.delete(key);
    kept.set(key, { outcome, untilMs });
    for (const oldest of kept.keys()) {
      if (kept.size <= maxEntries) break;
      kept.delete(oldest);
    }
  };

  const review = async (token: string): Promise<AuthOutcome> => {
    const spec = { token, audiences };
    try {
      const { status, body } = await client.request({
        method: 'POST',
        path: '/apis/authentication.k8s.io/v1/tokenreviews',
        body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec },
        timeoutMs: REVIEW_TIMEOUT_MS,
        maxBytes: 1024 * 1024,
      });
      if (status !== 200 && status !== 201) {
        return unavailable(`the API server refused to review a token: ${refusalOf(status, body).message}`);
      }
      return judge(at(body, 'status'), audiences, trustDomain);
    } catch (error) {
      return unavailable(errorText(error));
    }
  };

  return {
    async authenticate(credentials: Credentials): Promise<AuthOutcome> {
      const token = bearerOf(credentials.authorization);
      if (token === undefined) return refuse('auth.none', 'there is no bearer token');
      if (token.length > MAX_TOKEN_BYTES) return refuse('auth.bad_token', 'the token is too long');
      const named = credentials.clusterId ?? '';
      if (named !== '' && named !== clusterId) {
        return refuse('auth.unknown_cluster', `the caller is of cluster ${JSON.stringify(named.slice(0, 100))}`);
      }
      const key = createHash('sha256').update(token).digest('base64');
      const known = verdicts.caller.get(key) ?? verdicts.refused.get(key);
      if (known !== undefined && now() < known.untilMs) return known.outcome;
      verdicts.caller.delete(key);
      verdicts.refused.delete(key);
      const running = pending.get(key);
      if (running !== undefined) return await running;
      const peer = credentials.peer.replace(/:\d+$/, '');
      const ofPeer = pendingOf.get(peer) ?? 0;
      if (pending.size >= maxPending || ofPeer >= maxPendingOfPeer) {
        return unavailable('too many tokens are being reviewed');
      }
      const asked = review(token);
      pending.set(key, asked);
      pendingOf.set(peer, ofPeer + 1);
      const outcome = await asked;
      pending.delete(key);
      const left = (pendingOf.get(peer) ?? 1) - 1;
      if (left === 0) pendingOf.delete(peer);
      else pendingOf.set(peer, left);
      remember(key, token, outcome);
      if (outcome.kind === 'refused') log.debug('Token refused', { code: outcome.code, peer: credentials.peer });
      return outcome;
    },
  };
}

function judge(status: unknown, audiences: readonly string[], trustDomain: string): AuthOutcome {
  if (at(status, 'authenticated') !== true) {
    return refuse('auth.bad_token', `not authenticated: ${textAt(status, 'error').slice(0, 200)}`);
  }
  // A server that does not know audiences leaves them out: its word then says nothing about ours.
  if (!textsAt(status, 'audiences').some(audience => audiences.includes(audience))) {
    return refuse('auth.bad_audience', 'the token is for another audience');
  }
  if (!textsAt(status, 'user', 'groups').includes('system:serviceaccounts')) {
    return refuse('auth.not_service_account', 'the user is not in the group system:serviceaccounts');
  }
  const username = textAt(status, 'user', 'username');
  const [system, type, namespace = '', serviceAccount = '', ...more] = username.split(':');
  if (
    system !== 'system' ||
    type !== 'serviceaccount' ||
    more.length > 0 ||
    !NAME.test(namespace) ||
    !NAME.test(serviceAccount)
  ) {
    return refuse('auth.not_service_account', `${JSON.stringify(username.slice(0, 200))} is no service account`);
  }
  const extra = at(status, 'user', 'extra');
  const podName = extraOf(extra, 'pod-name');
  const podUid = extraOf(extra, 'pod-uid');
  const caller: Caller = {
    identity: { trustDomain, namespace, serviceAccount },
    via: 'kubernetes',
    node: extraOf(extra, 'node-name'),
    pod: podName === undefined || podUid === undefined ? undefined : { name: podName, uid: podUid },
  };
  return { kind: 'caller', caller };
}

/** Exactly one value, or none: two would leave open which holds. */
function extraOf(extra: unknown, name: string): string | undefined {
  const values = isObject(extra) ? textsAt(extra, `${EXTRA}${name}`) : [];
  const [value] = values;
  return values.length === 1 && value !== '' ? value : undefined;
}

function bearerOf(header: string | undefined): string | undefined {
  const [, token] = /^Bearer +([\x21-\x7e]+)$/i.exec(header ?? '') ?? [];
  return token;
}

/** `exp` of a JWT, unverified, in milliseconds; undefined when it is none or has none. */
function expiryMs(token: string): number | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const exp = at(claims, 'exp');
    return typeof exp === 'number' ? exp * 1000 : undefined;
  } catch {
    return undefined; // not a JWT: some clusters' tokens are opaque
  }
}

function refuse(code: string, reason: string): AuthOutcome {
  return { kind: 'refused', code, reason };
}

function unavailable(reason: string): AuthOutcome {
  return refuse('auth.unavailable', reason);
}
