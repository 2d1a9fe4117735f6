// CreateCertificate as istiod answers it: proves the caller, decides whose certificate it may have, has it signed, and turns
// every refusal into a gRPC status. Who is refused for what they are learns nothing more than that; the reason is in the
// audit log.
import { formatSpiffeId, parseSpiffeId, type SpiffeId, sameSpiffeId } from '@ambit/mesh';
import { type CertificateHandler, type CertificateRequest, type GrpcCode, GrpcError } from '@ambit/wire/grpc-server';
import type { AuthOutcome, Authenticator, Caller, Credentials } from '../auth/caller.ts';
import { ControlError } from '../errors.ts';
import type { PodDirectory } from '../model/resource.ts';
import { authorizeIdentity } from './authorize.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { type IssueLimits, IssuePace } from './issue-pace.ts';

export interface HandlerDeps {
  readonly ca: CertificateAuthority;
  readonly authenticator: Authenticator;
  readonly directory: PodDirectory;
  /** Accounts, `namespace/name`, that may ask for identities of pods on their node. */
  readonly trustedAccounts: readonly string[];
  /** How many certificates one caller is given. */
  readonly limits?: Partial<IssueLimits>;
}

const STATUSES: ReadonlyMap<string, GrpcCode> = new Map([
  ['ca.bad_csr', 'invalid_argument'],
  ['ca.bad_key', 'invalid_argument'],
  ['ca.bad_ttl', 'invalid_argument'],
  ['ca.bad_identity', 'unauthenticated'],
  ['ca.audit', 'unavailable'],
]);
const OPAQUE = 'request authenticate failure';

export function certificateHandler(deps: HandlerDeps): CertificateHandler {
  const { ca, authenticator } = deps;
  const pace = new IssuePace({
    now: () => performance.now(),
    ...(deps.limits === undefined ? {} : { limits: deps.limits }),
  });
  return async (request, { credentials }) => {
    const { peer } = credentials;
    const outcome = await authenticate(authenticator, credentials);
    if (outcome.kind === 'refused') {
      ca.refused({ peer }, outcome.code, outcome.reason);
      throw new GrpcError('unauthenticated', OPAQUE);
    }
    const { caller } = outcome;
    const identity = chooseIdentity(deps, caller, request, peer);
    if (!pace.take(caller, sameSpiffeId(identity, caller.identity))) {
      ca.refused({ caller, peer }, 'ca.too_many', 'more certificates than one caller needs', formatSpiffeId(identity));
      throw new GrpcError('resource_exhausted', 'too many certificates for one caller, try again later');
    }
    try {
      const certChain = ca.issue({
        caller,
        peer,
        identity,
        csrPem: request.csr,
        ttlMs: toMs(request.validityDurationSeconds),
      });
      return { certChain };
    } catch (error) {
      const status = error instanceof ControlError ? (STATUSES.get(error.code) ?? 'internal') : 'internal';
      // What is wrong with the request its sender may read; what is wrong with us is for our own log.
      const isTheirs = status === 'invalid_argument' && error instanceof ControlError;
      throw new GrpcError(status, isTheirs ? error.message : 'the certificate authority cannot sign now');
    }
  };
}

async function authenticate(authenticator: Authenticator, credentials: Credentials): Promise<AuthOutcome> {
  try {
    return await authenticator.authenticate(credentials);
  } catch {
    // Against its contract; an identity is not given away for that.
    return { kind: 'refused', code: 'auth.failed', reason: 'the authenticator failed' };
  }
}

function chooseIdentity(
  { ca, directory, trustedAccounts }: HandlerDeps,
  caller: Caller,
  { metadata }: CertificateRequest,
  peer: string,
): SpiffeId {
  const { ImpersonatedIdentity: wanted } = metadata;
  // Upstream takes an empty one as none.
  const requested =
    wanted === undefined || wanted === ''
      ? caller.identity
      : typeof wanted === 'string'
        ? parseSpiffeId(wanted)
        : undefined;
  if (requested === undefined) {
    ca.refused({ caller, peer }, 'ca.bad_identity', 'the impersonated identity is not a SPIFFE id', String(wanted));
    throw new GrpcError('unauthenticated', OPAQUE);
  }
  const decision = authorizeIdentity(caller, requested, directory, trustedAccounts);
  if (decision.kind === 'allowed') return requested;
  ca.refused({ caller, peer }, decision.code, decision.reason, formatSpiffeId(requested));
  throw new GrpcError('unauthenticated', decision.isRetryable ? `${OPAQUE}: not known yet, try again` : OPAQUE);
}

/** Exact up to a thousand years, and never small for something large. */
function toMs(seconds: bigint): number {
  return Number(seconds) * 1000;
}
