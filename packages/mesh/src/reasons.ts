// The one table of reason codes: why a connection, a pod or a configuration was refused or cut. A code is an API
// (records, metrics, logs, `ambit why`, docs/reasons/): never rename one, never reuse one. `flag` is the upstream
// response flag that goes with it in metrics (Istio ztunnel; "-" is success or drain).

export type ResponseFlag =
  | '-'
  | 'DENY'
  | 'CONNECT'
  | 'TLS_FAILURE'
  | 'H2_HANDSHAKE_FAILURE'
  | 'NETWORK_POLICY'
  | 'IDENTITY_ERROR'
  | 'CERT_REVOKED';

interface ReasonShape {
  /** One sentence for an operator: what happened. */
  readonly sentence: string;
  readonly flag: ResponseFlag;
  /** What to look at next. */
  readonly hint: string;
}

const TABLE = {
  'policy.denied_by': {
    sentence: 'a DENY policy matches the connection',
    flag: 'DENY',
    hint: 'read the named policy; ambit why SOURCE DESTINATION shows which rule matched',
  },
  'policy.no_allow_match': {
    sentence: 'the destination has ALLOW policies and none of them matches the connection',
    flag: 'DENY',
    hint: 'add the caller to one of the ALLOW policies; ambit why shows what each rule wants',
  },
  'policy.unknown': {
    sentence: 'the destination is assigned a policy that has not been received, so nothing is let through yet',
    flag: 'DENY',
    hint: 'wait for the control plane, or fix the name in authorizationPolicies',
  },
  'policy.changed': {
    sentence: 'a policy change no longer allows the established connection',
    flag: 'DENY',
    hint: 'compare the policy with its previous version; ambit why shows the present verdict',
  },
  'policy.dry_run': {
    sentence: 'a dry-run policy would have decided otherwise',
    flag: '-',
    hint: 'nothing was refused; remove dryRun to enforce the policy',
  },
  'identity.unknown_source': {
    sentence: 'the local workload is not known to the mesh',
    flag: 'CONNECT',
    hint: 'check that the control plane sends a workload with this name, namespace and service account',
  },
  'identity.mismatch': {
    sentence: 'the peer proved an identity that is not one of the expected ones',
    flag: 'CONNECT',
    hint: 'compare the service account of the destination with subjectAltNames of its service; the address may have been reused',
  },
  'identity.unavailable': {
    sentence: 'no certificate could be obtained for the local workload',
    flag: 'IDENTITY_ERROR',
    hint: 'check that the certificate authority is reachable and willing to sign for this service account',
  },
  'identity.revoked': {
    sentence: 'the certificate of the peer is revoked',
    flag: 'CERT_REVOKED',
    hint: 'restart the peer so that it obtains a new certificate, if it should be trusted at all',
  },
  'tls.untrusted_root': {
    sentence: 'the peer certificate does not chain to a trusted root',
    flag: 'CONNECT',
    hint: 'compare the roots on both nodes; a root rotation may not have reached one of them',
  },
  'tls.no_certificate': {
    sentence: 'the peer presented no certificate',
    flag: 'CONNECT',
    hint: 'the peer is not a mesh proxy, or it is configured for plain TLS',
  },
  'tls.expired': {
    sentence: 'the peer certificate has expired',
    flag: 'CONNECT',
    hint: 'check that the peer can reach its certificate authority, and both clocks',
  },
  'tls.not_yet_valid': {
    sentence: 'the peer certificate is not valid yet',
    flag: 'CONNECT',
    hint: 'compare the clocks of the two nodes',
  },
  'tls.wrong_purpose': {
    sentence: 'the peer certificate may not be used for this purpose',
    flag: 'CONNECT',
    hint: 'the certificate authority must issue for both client and server authentication',
  },
  'tls.handshake_timeout': {
    sentence: 'the TLS handshake did not finish in time',
    flag: 'CONNECT',
    hint: 'look for packet loss, a stuck peer, or a middlebox between the nodes',
  },
  'tls.alert': {
    sentence: 'the peer ended the TLS session with an alert',
    flag: 'CONNECT',
    hint: 'the alert names the cause; the log of the peer has the other half',
  },
  'tls.bad_record': {
    sentence: 'a TLS record failed authentication',
    flag: 'CONNECT',
    hint: 'something between the nodes alters traffic, or a peer is faulty',
  },
  'tls.protocol': {
    sentence: 'the peer broke the TLS protocol',
    flag: 'CONNECT',
    hint: 'check that the port belongs to a mesh proxy and which TLS versions the peer offers',
  },
  'tls.eof': {
    sentence: 'the peer closed the connection inside a TLS session without saying so',
    flag: 'CONNECT',
    hint: 'the peer crashed or was killed, or a firewall cut the connection',
  },
  'tls.config': {
    sentence: 'the local certificate, key or roots cannot be used',
    flag: 'TLS_FAILURE',
    hint: 'inspect the certificate with ambit identity',
  },
  'hbone.protocol': {
    sentence: 'the peer broke the HTTP/2 protocol',
    flag: 'H2_HANDSHAKE_FAILURE',
    hint: 'check which proxy and version answers at this address',
  },
  'hbone.refused_stream': {
    sentence: 'the peer refused the stream before any byte was used',
    flag: 'H2_HANDSHAKE_FAILURE',
    hint: 'the peer is at its stream limit or draining; a retry is safe',
  },
  'hbone.goaway': {
    sentence: 'the peer is shutting the tunnel down',
    flag: 'H2_HANDSHAKE_FAILURE',
    hint: 'a restart or drain on the other node; new connections use a new tunnel',
  },
  'hbone.reset': {
    sentence: 'the peer reset the stream',
    flag: 'H2_HANDSHAKE_FAILURE',
    hint: 'the log of the peer has the reason',
  },
  'hbone.flow_control': {
    sentence: 'the peer sent more than it was allowed to',
    flag: 'H2_HANDSHAKE_FAILURE',
    hint: 'a fault of the peer; note its version',
  },
  'hbone.header_limit': {
    sentence: 'the request headers are larger than allowed',
    flag: 'H2_HANDSHAKE_FAILURE',
    hint: 'the peer is not a mesh proxy or is misbehaving',
  },
  'hbone.flood': {
    sentence: 'the peer sent too many control frames',
    flag: 'H2_HANDSHAKE_FAILURE',
    hint: 'the tunnel was closed to protect the node; look at the peer',
  },
  'hbone.ping_timeout': {
    sentence: 'the peer stopped answering on the tunnel',
    flag: 'CONNECT',
    hint: 'the node of the peer is down, overloaded or cut off',
  },
  'hbone.status': {
    sentence: 'the peer answered the tunnel request with an error status',
    flag: 'CONNECT',
    hint: '401 is a policy of the destination, 503 means it could not reach the application, 400 a bad address',
  },
  'hbone.response_timeout': {
    sentence: 'the peer did not answer the tunnel request in time',
    flag: 'CONNECT',
    hint: 'the destination application may be slow to accept connections',
  },
  'hbone.not_connect': {
    sentence: 'a request other than CONNECT arrived on the tunnel port',
    flag: 'CONNECT',
    hint: 'something speaks plain HTTP/2 to port 15008; it is for mesh proxies only',
  },
  'hbone.no_authority': {
    sentence: 'the tunnel request names no valid destination',
    flag: 'CONNECT',
    hint: 'the authority must be ip:port or hostname:port',
  },
  'hbone.ip_mismatch': {
    sentence: 'the tunnel request asks for an address that is not this workload and that it is no waypoint for',
    flag: 'CONNECT',
    hint: 'a stale view of the mesh at the caller, a missing waypoint label, or an attempt to reach another pod through this one',
  },
  'route.unknown_destination': {
    sentence: 'the destination address belongs to nothing in the mesh',
    flag: 'CONNECT',
    hint: 'check the address; the control plane may not have sent it yet',
  },
  'route.no_healthy_endpoint': {
    sentence: 'the service has no healthy endpoint that can be used',
    flag: 'CONNECT',
    hint: 'check that pods of the service run, are ready and map the port; ambit why lists what was left out',
  },
  'route.waypoint_unavailable': {
    sentence: 'the waypoint of the destination cannot be found or has no endpoint',
    flag: 'CONNECT',
    hint: 'check that the waypoint is deployed and ready, or remove the use-waypoint label',
  },
  'route.gateway_unavailable': {
    sentence: 'the gateway to the other network cannot be found or has no endpoint',
    flag: 'CONNECT',
    hint: 'check the east-west gateway of that network',
  },
  'route.illegal_port': {
    sentence: 'the destination port is one of the proxy itself',
    flag: 'CONNECT',
    hint: 'ports 15001, 15006, 15008 and 15080 of a pod cannot be reached through the mesh',
  },
  'route.loop': {
    sentence: 'the connection would come straight back to the proxy that makes it',
    flag: 'CONNECT',
    hint: 'an application connects to a proxy port on its own loopback address',
  },
  'route.no_port': {
    sentence: 'the service has no usable target for the requested port',
    flag: 'CONNECT',
    hint: 'compare the ports of the service with the container ports',
  },
  'route.unknown_host': {
    sentence: 'no service visible from here has the requested host name',
    flag: 'CONNECT',
    hint: 'check the name and the visibility of the service',
  },
  'route.no_vip': {
    sentence: 'the service has no address of its own, which the application tunnel needs',
    flag: 'CONNECT',
    hint: 'give the service an address, or address it by ip',
  },
  'route.no_service': {
    sentence: 'only connections to a service can cross to another network',
    flag: 'CONNECT',
    hint: 'connect to the service name or address instead of a pod address',
  },
  'route.no_address': {
    sentence: 'the destination has no address that can be reached from here',
    flag: 'CONNECT',
    hint: 'check its addresses, its host name, and whether its network has a gateway',
  },
  'dial.refused': {
    sentence: 'the destination refused the connection',
    flag: 'CONNECT',
    hint: 'nothing listens on that port, or the process is not up yet',
  },
  'dial.timeout': {
    sentence: 'the destination did not answer in time',
    flag: 'NETWORK_POLICY',
    hint: 'look for a network policy or firewall that blocks the port (15008 between nodes)',
  },
  'dial.unreachable': {
    sentence: 'there is no route to the destination',
    flag: 'CONNECT',
    hint: 'check routes and the node of the destination',
  },
  'dial.no_fds': {
    sentence: 'the proxy has no file descriptors left',
    flag: 'CONNECT',
    hint: 'raise the limit of open files, or look for a connection leak on this node',
  },
  'dial.netns_gone': {
    sentence: 'the network namespace of the pod could not be entered',
    flag: 'CONNECT',
    hint: 'the pod is being removed, or the proxy lacks the privilege SYS_ADMIN',
  },
  'dial.failed': {
    sentence: 'the connection to the destination could not be made',
    flag: 'CONNECT',
    hint: 'the system error in the record says why',
  },
  'dns.lookup_failed': {
    sentence: 'the host name of the destination could not be resolved',
    flag: 'CONNECT',
    hint: 'check the name and the resolver of the node',
  },
  'dns.no_addresses': {
    sentence: 'the host name of the destination has no addresses',
    flag: 'CONNECT',
    hint: 'check the A and AAAA records of the name',
  },
  'peer.reset': {
    sentence: 'one side reset the connection',
    flag: 'CONNECT',
    hint: 'an application closed with data unread, or crashed',
  },
  'peer.eof_early': {
    sentence: 'one side closed before all data was delivered',
    flag: 'CONNECT',
    hint: 'look at the application that closed first',
  },
  'drain.deadline': {
    sentence: 'the proxy shut down and the connection outlived the deadline',
    flag: '-',
    hint: 'raise the termination grace period, or end long connections earlier',
  },
  'drain.pod_removed': {
    sentence: 'the pod left the mesh or was deleted',
    flag: '-',
    hint: 'nothing to do if the pod was meant to go',
  },
  'limit.memory': {
    sentence: 'the proxy is at its memory budget',
    flag: 'CONNECT',
    hint: 'raise AMBIT_MEMORY_BUDGET, or look for peers that do not read',
  },
  'limit.streams': {
    sentence: 'the tunnel is at its limit of concurrent streams',
    flag: 'CONNECT',
    hint: 'raise POOL_MAX_STREAMS_PER_CONNECTION, or look for connections that never end',
  },
  'limit.connections': {
    sentence: 'the proxy is at its limit of connections',
    flag: 'CONNECT',
    hint: 'look for a client that opens connections without closing them',
  },
  'enrol.netns_gone': {
    sentence: 'the network namespace of the pod is gone',
    flag: '-',
    hint: 'the pod was deleted meanwhile; if this repeats, run ambit audit on the node',
  },
  'enrol.port_taken': {
    sentence: 'another process in the pod already listens on a port of the proxy',
    flag: '-',
    hint: 'free ports 15001, 15006 and 15008 in the pod',
  },
  'enrol.failed': {
    sentence: 'the pod could not be added to the mesh',
    flag: '-',
    hint: 'the error in the log of the node proxy says which step failed',
  },
  'audit.rules_drift': {
    sentence: 'the rules in the network of a member are not those that were programmed',
    flag: '-',
    hint: 'the agent programs them anew; if it repeats, look who changes them with nft monitor in that namespace',
  },
  'audit.routes_drift': {
    sentence: 'a routing rule or the local route of table 100 of a member is gone',
    flag: '-',
    hint: 'the agent adds it again; if it repeats, look who removes it with ip monitor in that namespace',
  },
  'audit.listener_gone': {
    sentence: 'ztunnel does not listen in the network of a member, so its traffic is refused',
    flag: '-',
    hint: 'the agent has ztunnel serve the pod anew; if it repeats, the log of ztunnel says why its listeners end',
  },
  'audit.certificate_missing': {
    sentence: 'the proxy of a member has no certificate that is good',
    flag: '-',
    hint: 'check that the certificate authority is reachable, signs for this service account, and that clocks agree',
  },
  'audit.certificate_expiring': {
    sentence: 'the certificate of a member is near its end and was not renewed',
    flag: '-',
    hint: 'check that the certificate authority is reachable; ztunnel renews at half of the life',
  },
  'audit.canary_failed': {
    sentence: 'a connection from a member to itself through the mesh did not arrive as mutually authenticated',
    flag: '-',
    hint: 'plaintext means that something leads its traffic past the mesh: list all rules in its namespace; otherwise read the log of ztunnel',
  },
  'audit.ztunnel_down': {
    sentence: 'no ztunnel is connected to the agent of the node',
    flag: '-',
    hint: 'members of the node are cut off until one is; see why it does not run',
  },
  'audit.not_enrolled': {
    sentence: 'a pod should be a member and is not served',
    flag: '-',
    hint: 'ambit audit and the log of the agent name the step that fails',
  },
  'audit.wrong_netns': {
    sentence: 'the network held for a member is not its own',
    flag: '-',
    hint: 'the agent enrols it anew by what its source says; if it repeats, see what the container runtime hands over',
  },
  'audit.address_reused': {
    sentence: 'the address of a member is in the network of another pod',
    flag: '-',
    hint: 'the agent lets the stale one go; two pods that both have it are a fault of what assigns addresses',
  },
  'audit.leftover_rules': {
    sentence: 'a pod that is no member has rules of the mesh in its network',
    flag: '-',
    hint: 'the agent removes them; if they return, another agent (Istio CNI) may run on the node',
  },
  'audit.label_mismatch': {
    sentence: 'the annotation by which control planes know a member says something else than the agent',
    flag: '-',
    hint: 'check that the agent may write to pods, and who else changes ambient.istio.io/redirection',
  },
  'audit.host_rules_drift': {
    sentence: 'the rules of the node that let probes of the kubelet through are not those that were programmed',
    flag: '-',
    hint: 'the agent programs them anew; if it repeats, look who changes them with nft monitor on the node',
  },
  'config.invalid': {
    sentence: 'a configuration value is not acceptable',
    flag: '-',
    hint: 'the message names the place and the nearest valid choice',
  },
} as const satisfies Record<string, ReasonShape>;

/** Every code of the table. */
export type ReasonCode = keyof typeof TABLE;

export interface Reason extends ReasonShape {
  readonly code: ReasonCode;
}

/** The whole table, in the order it is written. */
export const REASONS: readonly Reason[] = Object.freeze(
  (Object.keys(TABLE) as ReasonCode[]).map(code => Object.freeze({ code, ...TABLE[code] })),
);

const BY_CODE: ReadonlyMap<string, Reason> = new Map(REASONS.map(reason => [reason.code, reason]));

export function reasonOf(code: ReasonCode): Reason {
  return { code, ...TABLE[code] };
}

export function isReasonCode(text: string): text is ReasonCode {
  return BY_CODE.has(text);
}

/** The response flag upstream would put into metrics for this cause. */
export function responseFlagOf(code: ReasonCode): ResponseFlag {
  return TABLE[code].flag;
}
