// What the mesh as a whole is called and how its objects are read; the same for every part of the control plane.

export interface MeshSettings {
  /** SPIFFE trust domain. Default `cluster.local`. */
  readonly trustDomain: string;
  /** DNS suffix of services. Default `cluster.local`. */
  readonly clusterDomain: string;
  /** Default `Kubernetes`. */
  readonly clusterId: string;
  /** Undefined: the label `topology.istio.io/network` of the root namespace decides. */
  readonly network: string | undefined;
  /** Policies here hold for the whole mesh. Default `istio-system`. */
  readonly rootNamespace: string;
  /** As AMBIT's and upstream's AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY. Default false: dry-run policies are not sent. */
  readonly dryRunPolicies: boolean;
  /** As upstream's PILOT_AUTO_ALLOW_WAYPOINT_POLICY. Default false. */
  readonly autoAllowWaypoints: boolean;
  /**
   * Whether ServiceEntries without an address get one from 240.240.0.0/16 and 2001:2::/48, which the node proxies answer
   * their names with. Default true, as upstream's PILOT_ENABLE_IP_AUTOALLOCATE since 1.25. Addresses in their status, as
   * istiod writes them, come first.
   */
  readonly allocateAddresses: boolean;
  /** As upstream's revision filter: objects with another `istio.io/rev` are not ours. Default `default`. */
  readonly revision: string;
}

export const DEFAULT_SETTINGS: MeshSettings = {
  trustDomain: 'cluster.local',
  clusterDomain: 'cluster.local',
  clusterId: 'Kubernetes',
  network: undefined,
  rootNamespace: 'istio-system',
  dryRunPolicies: false,
  autoAllowWaypoints: false,
  allocateAddresses: true,
  revision: 'default',
};
