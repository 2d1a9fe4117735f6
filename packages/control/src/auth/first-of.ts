// Several ways to prove who one is, tried in order. The first that finds credentials of its kind decides: credentials that
// are there and bad are refused, whatever else is shown. The reason goes to our log and our counters, never to the peer.
import { errorText, type Log } from '@ambit/log';
import type { Authenticator, AuthOutcome } from './caller.ts';

export interface CountingAuthenticator extends Authenticator {
  /** Refusals by code since start. */
  readonly refusals: ReadonlyMap<string, number>;
}

/** @param authenticators in the order of upstream: certificate, then kinds of tokens */
export function firstOf(authenticators: readonly Authenticator[], log: Log): CountingAuthenticator {
  const refusals = new Map<string, number>();
  const ask = async (...[credentials]: Parameters<Authenticator['authenticate']>): Promise<AuthOutcome> => {
    for (const authenticator of authenticators) {
      // One after the other on purpose: a later one may cost a call to an API server.
      const outcome = await authenticator.authenticate(credentials);
      if (outcome.kind === 'caller' || outcome.code !== 'auth.none') return outcome;
    }
    return { kind: 'refused', code: 'auth.none', reason: 'no credentials that this control plane knows' };
  };
  return {
    refusals,
    authenticate: async credentials => {
      let outcome: AuthOutcome;
      try {
        outcome = await ask(credentials);
      } catch (error) {
        const reason = errorText(error);
        outcome = { kind: 'refused', code: 'auth.failed', reason };
      }
      if (outcome.kind === 'refused') {
        refusals.set(outcome.code, (refusals.get(outcome.code) ?? 0) + 1);
        // Debug: a stranger can cause as many of these as it likes.
        log.debug('Refused credentials', { peer: credentials.peer, code: outcome.code, reason: outcome.reason });
      }
      return outcome;
    },
  };
}
