// Tokens for meshes without Kubernetes: JWTs that this control plane signs (ES256) and takes back, naming a service account
// and the node they may speak for. Whoever holds one is that account on that node until it expires: keep it as a key.
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject, randomUUID } from 'node:crypto';
import { link, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { decodeJwt, errors, jwtVerify, SignJWT } from 'jose';
import { ensureStateDirectory, readSecret, writeAtomically } from '../ca/state-files.ts';
import { ControlError } from '../errors.ts';
import type { Authenticator, AuthOutcome, Credentials } from './caller.ts';
import { CLOCK_LEEWAY_MS } from './certificate-authenticator.ts';

export interface LocalTokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The node it may ask for identities of; undefined: none but its own. */
  readonly node?: string | undefined;
  /** Default 30 days, at most a year. */
  readonly ttlMs?: number | undefined;
}

export interface LocalToken {
  readonly token: string;
  readonly expiresAtMs: number;
  /** Claim `jti`, for the audit log. */
  readonly id: string;
}

export interface LocalTokensOptions {
  readonly stateDirectory: string;
  readonly trustDomain: string;
  readonly now?: () => number;
}

const ISSUER = 'ambit';
const AUDIENCE = 'istio-ca';
const NODE_CLAIM = 'ambit.node';
const DAY_MS = 86_400_000;
const DEFAULT_TTL_MS = 30 * DAY_MS;
const MAX_TTL_MS = 365 * DAY_MS;
const MAX_TOKEN_BYTES = 16 * 1024;
const SUBJECT = /^system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})$/;

export class LocalTokens implements Authenticator {
  readonly #options: LocalTokensOptions;
  readonly #now: () => number;
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;

  private constructor(options: LocalTokensOptions, key: KeyObject) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#privateKey = key;
    this.#publicKey = createPublicKey(key);
  }

  /** Reads `token-key.pem` (0600) of the state directory, or makes it. @throws ca.key_permissions, ca.state */
  static async open(options: LocalTokensOptions): Promise<LocalTokens> {
    const { stateDirectory } = options;
    await ensureStateDirectory(stateDirectory);
    const path = join(stateDirectory, 'token-key.pem');
    if ((await readSecret(path)) === undefined) await makeKey(path);
    try {
      const key = createPrivateKey((await readSecret(path)) ?? '');
      if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new Error('not a P-256 key');
      return new LocalTokens(options, key);
    } catch (error) {
      if (error instanceof ControlError) throw error;
      // Without the cause, which may quote the file.
      throw new ControlError('ca.state', `the file ${path} holds no P-256 key`, {
        next: 'restore it, or remove it: then every node needs a new token',
      });
    }
  }

  async issue({ namespace, serviceAccount, node, ttlMs = DEFAULT_TTL_MS }: LocalTokenRequest): Promise<LocalToken> {
    const subject = `system:serviceaccount:${namespace}:${serviceAccount}`;
    if (!SUBJECT.test(subject))
      throw new ControlError('auth.bad_request', `${subject} is not a service account's name`);
    if (!(ttlMs > 0 && ttlMs <= MAX_TTL_MS)) {
      throw new ControlError('auth.bad_request', `a token lives at most ${MAX_TTL_MS / DAY_MS} days`);
    }
    const issuedAt = Math.floor(this.#now() / 1000);
    const expiresAt = issuedAt + Math.ceil(ttlMs / 1000);
    const id = randomUUID();
    const token = await new SignJWT(node === undefined ? {} : { [NODE_CLAIM]: node })
      .setProtectedHeader({ alg: 'ES256', typ: 'JWT' })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(subject)
      .setJti(id)
      .setIssuedAt(issuedAt)
      .setNotBefore(issuedAt)
      .setExpirationTime(expiresAt)
      .sign(this.#privateKey);
    return { token, expiresAtMs: expiresAt * 1000, id };
  }

  async authenticate(credentials: Credentials): Promise<AuthOutcome> {
    const token = bearerOf(credentials);
    // Other issuers' tokens are for other authenticators; the claim is only looked at for that, not believed.
    if (token === undefined || !isOurs(token)) return refuse('auth.none', 'no local token');
    try {
      const { payload } = await jwtVerify(token, this.#publicKey, {
        algorithms: ['ES256'],
        issuer: ISSUER,
        audience: AUDIENCE,
        requiredClaims: ['sub', 'exp', 'jti'],
        clockTolerance: CLOCK_LEEWAY_MS / 1000,
        currentDate: new Date(this.#now()),
      });
      const [, namespace, serviceAccount] = SUBJECT.exec(payload.sub ?? '') ?? [];
      if (namespace === undefined || serviceAccount === undefined) {
        return refuse('auth.bad_token', 'the subject is not a service account');
      }
      const node = payload[NODE_CLAIM];
      return {
        kind: 'caller',
        caller: {
          identity: { trustDomain: this.#options.trustDomain, namespace, serviceAccount },
          via: 'local_token',
          node: typeof node === 'string' ? node : undefined,
          pod: undefined,
        },
      };
    } catch (error) {
      if (error instanceof errors.JWTExpired) return refuse('auth.expired', 'the local token expired');
      return refuse(
        'auth.bad_token',
        error instanceof errors.JOSEError ? error.message : 'the local token is not valid',
      );
    }
  }
}

/** The token of `Bearer TOKEN`; undefined when there is none or it is larger than any token. */
export function bearerOf({ authorization }: Credentials): string | undefined {
  if (authorization === undefined || authorization.length > MAX_TOKEN_BYTES) return undefined;
  return /^bearer ([\x21-\x7e]+)\s*$/i.exec(authorization)?.[1];
}

function isOurs(token: string): boolean {
  try {
    return decodeJwt(token).iss === ISSUER;
  } catch {
    return false;
  }
}

/** Of two that start at once one makes the key: a link fails where a name exists. */
async function makeKey(path: string): Promise<void> {
  const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'prime256v1' });
  const beside = `${path}.${randomUUID()}.new`;
  await writeAtomically(beside, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), 0o600);
  try {
    await link(beside, path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  } finally {
    await rm(beside, { force: true });
  }
}

function refuse(code: string, reason: string): AuthOutcome {
  return { kind: 'refused', code, reason };
}
