// Who may ask for whose certificate. Everybody may have their own; the node proxy, an account that was named as trusted, may
// have those of pods that live on its node, and it must have proven which node that is. Fails closed: whatever is unknown
// is refused, and what may become known (a pod that was just created) is refused as something to try again.
import { formatSpiffeId, type SpiffeId, sameSpiffeId } from '@ambit/mesh';
import type { Caller } from '../auth/caller.ts';
import type { PodDirectory } from '../model/resource.ts';

export type IdentityDecision =
  | { readonly kind: 'allowed' }
  /** `isRetryable`: the same call may succeed when the control plane has seen more of the cluster. */
  | { readonly kind: 'refused'; readonly code: string; readonly reason: string; readonly isRetryable: boolean };

/** `ns/sa` of upstream's default node proxy. */
export const DEFAULT_TRUSTED_ACCOUNTS: readonly string[] = ['istio-system/ztunnel'];

/** Names of namespaces and service accounts (RFC 1123), and nothing that could be read as more than one name. */
const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/;
const ALLOWED: IdentityDecision = { kind: 'allowed' };

/**
 * Decides by upstream's rules (CA_TRUSTED_NODE_ACCOUNTS), and by two that upstream does not have: the trust domain must be
 * the caller's, and a node must be proven by the credentials themselves.
 * @param trusted accounts, `namespace/name`, that may ask for others' identities
 */
export function authorizeIdentity(
  caller: Caller,
  requested: SpiffeId,
  directory: PodDirectory,
  trusted: readonly string[],
): IdentityDecision {
  const { identity } = caller;
  if (caller.via === 'loopback') return refuse('ca.not_proven', 'the plaintext port proves nobody');
  if (requested.trustDomain !== identity.trustDomain) {
    return refuse('ca.foreign_trust_domain', `${formatSpiffeId(requested)} is of another trust domain`);
  }
  if (!NAME.test(requested.namespace) || !NAME.test(requested.serviceAccount)) {
    return refuse('ca.bad_identity', 'the requested identity has no valid namespace or service account');
  }
  if (sameSpiffeId(requested, identity)) return ALLOWED;
  const account = `${identity.namespace}/${identity.serviceAccount}`;
  if (!trusted.includes(account)) {
    return refuse('ca.not_trusted', `${account} may only have its own identity`);
  }
  const node = nodeOf(caller, directory);
  if (node.kind === 'refused') return node;
  const { namespace, serviceAccount } = requested;
  if (directory.hasIdentityOnNode(node.name, namespace, serviceAccount)) return ALLOWED;
  return retry('ca.not_on_node', `no pod of ${namespace}/${serviceAccount} is known on node ${node.name}`);
}

type NodeProof = { readonly kind: 'node'; readonly name: string } | Extract<IdentityDecision, { kind: 'refused' }>;

function nodeOf(caller: Caller, directory: PodDirectory): NodeProof {
  const { identity, pod, node, via } = caller;
  // A workload certificate names an account, and the account is the same on every node.
  if (via === 'certificate') return refuse('ca.no_node', 'a certificate does not prove a node');
  if (pod === undefined) {
    if (via === 'local_token' && node !== undefined && node !== '') return { kind: 'node', name: node };
    return refuse('ca.no_node', 'the token is bound to no pod and no node');
  }
  const known = directory.pod(identity.namespace, pod.name);
  if (known === undefined)
    return retry('ca.unknown_caller', `the pod ${identity.namespace}/${pod.name} is not known yet`);
  if (known.uid !== pod.uid || pod.uid === '') {
    return retry('ca.unknown_caller', `the pod ${identity.namespace}/${pod.name} is another one than the token's`);
  }
  if (known.serviceAccount !== identity.serviceAccount) {
    return refuse('ca.caller_mismatch', `the pod ${pod.name} does not run under ${identity.serviceAccount}`);
  }
  if (known.node === '') return retry('ca.no_node', `the pod ${pod.name} has no node yet`);
  if (node !== undefined && node !== known.node) {
    return refuse('ca.caller_mismatch', `the token is of node ${node}, the pod ${pod.name} of ${known.node}`);
  }
  return { kind: 'node', name: known.node };
}

function refuse(code: string, reason: string): Extract<IdentityDecision, { kind: 'refused' }> {
  return { kind: 'refused', code, reason, isRetryable: false };
}

function retry(code: string, reason: string): Extract<IdentityDecision, { kind: 'refused' }> {
  return { kind: 'refused', code, reason, isRetryable: true };
}
