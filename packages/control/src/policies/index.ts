// Translation of Istio's policies to what ztunnels enforce: pure, one object at a time (PeerAuthentications together,
// since they inherit from each other). The rest of the control plane uses only what is exported here.
export { type PolicyResources, policyResources } from './authorization.ts';
export {
  type PeerAuthenticationPolicy,
  peerAuthenticationAttachments,
  peerAuthenticationPolicies,
} from './peer-authentication.ts';
export { peerAuthenticationDiagnostics } from './peer-authentication-diagnostics.ts';
export { selectsWorkload } from './selector.ts';
