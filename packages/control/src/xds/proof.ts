// Why a caller was let in, kept for as long as its stream is open: a certificate may be revoked, and a token ends, while
// the stream that began with it lives on. Looks again only at what can be judged here; an API server is not asked anew.
import type { Authenticator, Caller, Credentials } from '../auth/caller.ts';

export interface Proof {
  readonly caller: Caller;
  readonly credentials: Credentials;
  readonly authenticator: Authenticator;
}

/** The code of why the proof holds no longer; undefined while it holds, or while nobody can say. */
export async function lapseOf({ caller, credentials, authenticator }: Proof): Promise<string | undefined> {
  if (caller.via !== 'certificate' && caller.via !== 'local_token') return undefined;
  const outcome = await authenticator.authenticate(credentials);
  if (outcome.kind === 'caller' || outcome.code === 'auth.failed' || outcome.code === 'auth.unavailable')
    return undefined;
  return outcome.code;
}
