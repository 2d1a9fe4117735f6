// The policy that lets a waypoint reach the workloads behind it although their own policies name only the clients
// (upstream's PILOT_AUTO_ALLOW_WAYPOINT_POLICY). Off unless the settings ask for it.
import { Action, type AuthorizationInit, Scope } from '@ambit/wire/resources';
import type { MeshSettings } from '../settings.ts';
import type { Waypoint } from './waypoint.ts';

/** `namespace/name` of the policy; empty when the waypoint has no instances, and so no identity to let in. */
export function allowPolicyKey(waypoint: Waypoint): string {
  return waypoint.serviceAccounts.length === 0 ? '' : `${waypoint.namespace}/${allowPolicyName(waypoint)}`;
}

export function waypointAllowPolicy(waypoint: Waypoint, settings: MeshSettings): AuthorizationInit | undefined {
  const { namespace, serviceAccounts } = waypoint;
  if (serviceAccounts.length === 0) return undefined;
  const principals = serviceAccounts.map(account => ({
    matchType: { case: 'exact' as const, value: `${settings.trustDomain}/ns/${namespace}/sa/${account}` },
  }));
  return {
    namespace,
    name: allowPolicyName(waypoint),
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.ALLOW,
    groups: [{ rules: [{ matches: [{ principals }] }] }],
  };
}

function allowPolicyName({ namespace, name }: Waypoint): string {
  return `istio_allow_waypoint_${namespace}_${name}`;
}
