// SPIFFE identities in the one shape Istio uses: spiffe://<trust domain>/ns/<namespace>/sa/<service account>.
// Parts are opaque: nothing is lower-cased or decoded, and empty parts are legal, as upstream has it.

export interface SpiffeId {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

const SCHEME = 'spiffe://';
/** Longer than any certificate SAN worth reading (the SPIFFE standard's own bound on an id). */
const LONGEST_SPIFFE_ID = 2048;

/** Reads a SPIFFE id; undefined unless it has exactly the five expected parts. */
export function parseSpiffeId(text: string): SpiffeId | undefined {
  if (text.length > LONGEST_SPIFFE_ID || !text.startsWith(SCHEME)) return undefined;
  const parts = text.slice(SCHEME.length).split('/', 6);
  const [trustDomain, ns, namespace, sa, serviceAccount] = parts;
  if (parts.length !== 5 || ns !== 'ns' || sa !== 'sa') return undefined;
  if (trustDomain === undefined || namespace === undefined || serviceAccount === undefined) return undefined;
  return { trustDomain, namespace, serviceAccount };
}

export function formatSpiffeId(id: SpiffeId): string {
  return SCHEME + formatPrincipal(id);
}

/** The id without its scheme, which is what `principals` of a policy are compared with. */
export function formatPrincipal(id: SpiffeId): string {
  return `${id.trustDomain}/ns/${id.namespace}/sa/${id.serviceAccount}`;
}

export function sameSpiffeId(a: SpiffeId, b: SpiffeId): boolean {
  return a.serviceAccount === b.serviceAccount && a.namespace === b.namespace && a.trustDomain === b.trustDomain;
}
