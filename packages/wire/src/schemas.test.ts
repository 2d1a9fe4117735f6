// Field numbers are the contract with every control plane and proxy there is; this is the contract, said a second time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DescFile, DescMessage } from '@bufbuild/protobuf';
import { file_authorization } from './gen/authorization_pb.ts';
import { file_citadel } from './gen/citadel_pb.ts';
import { file_discovery } from './gen/discovery_pb.ts';
import { file_workload } from './gen/workload_pb.ts';
import { file_zds } from './gen/zds_pb.ts';

const MESSAGES: Readonly<Record<string, string>> = {
  'istio.workload.Address': 'workload=1 service=2',
  'istio.workload.Service':
    'name=1 namespace=2 hostname=3 addresses=4 ports=5 subject_alt_names=6 waypoint=7 load_balancing=8 ip_families=9 ' +
    'extensions=10 canonical=11 ingress_use_waypoint=12 weighted_waypoints=13 visibility=14',
  'istio.workload.Workload':
    'name=1 namespace=2 addresses=3 network=4 tunnel_protocol=5 trust_domain=6 service_account=7 waypoint=8 node=9 ' +
    'canonical_name=10 canonical_revision=11 workload_type=12 workload_name=13 native_tunnel=14 ' +
    'authorization_policies=16 status=17 cluster_id=18 network_gateway=19 uid=20 hostname=21 services=22 ' +
    'application_tunnel=23 locality=24 network_mode=25 extensions=26 capacity=27',
  'istio.workload.Locality': 'region=1 zone=2 subzone=3',
  'istio.workload.PortList': 'ports=1',
  'istio.workload.Port': 'service_port=1 target_port=2 app_protocol=3',
  'istio.workload.ApplicationTunnel': 'protocol=1 port=2',
  'istio.workload.GatewayAddress': 'hostname=1 address=2 hbone_mtls_port=3',
  'istio.workload.WeightedWaypoint': 'destination=1 weight=2',
  'istio.workload.NetworkAddress': 'network=1 address=2 length=3',
  'istio.workload.NamespacedHostname': 'namespace=1 hostname=2',
  'istio.workload.Extension': 'name=1 config=2',
  'istio.workload.LoadBalancing': 'routing_preference=1 mode=2 health_policy=3',
  'istio.security.Authorization': 'name=1 namespace=2 scope=3 action=4 groups=5 dry_run=6 extensions=7',
  'istio.security.Group': 'rules=1',
  'istio.security.Rules': 'matches=2',
  'istio.security.Match':
    'namespaces=1 not_namespaces=2 principals=3 not_principals=4 source_ips=5 not_source_ips=6 destination_ips=7 ' +
    'not_destination_ips=8 destination_ports=9 not_destination_ports=10 service_accounts=11 not_service_accounts=12 ' +
    'extensions=13',
  'istio.security.Address': 'address=1 length=2',
  'istio.security.ServiceAccountMatch': 'namespace=1 serviceAccount=2',
  'istio.security.StringMatch': 'exact=1 prefix=2 suffix=3 presence=4',
  'istio.v1.auth.IstioCertificateRequest': 'csr=1 validity_duration=3 metadata=4',
  'istio.v1.auth.IstioCertificateResponse': 'cert_chain=1',
  'envoy.service.discovery.v3.Node': 'id=1 cluster=2 metadata=3 build_version=5',
  'envoy.service.discovery.v3.Status': 'code=1 message=2 details=3',
  'envoy.service.discovery.v3.DeltaDiscoveryRequest':
    'node=1 type_url=2 resource_names_subscribe=3 resource_names_unsubscribe=4 initial_resource_versions=5 ' +
    'response_nonce=6 error_detail=7',
  'envoy.service.discovery.v3.DeltaDiscoveryResponse':
    'system_version_info=1 resources=2 type_url=4 nonce=5 removed_resources=6',
  'envoy.service.discovery.v3.CacheControl': 'do_not_cache=1',
  'envoy.service.discovery.v3.Resource': 'version=1 resource=2 name=3 aliases=4 ttl=6 cache_control=7',
  'istio.workload.zds.ZdsHello': 'version=1 ambit_canary=1000',
  'istio.workload.zds.WorkloadInfo': 'name=1 namespace=2 service_account=3 ambit_l7=1000',
  'istio.workload.zds.AddWorkload': 'uid=1 workload_info=2',
  'istio.workload.zds.KeepWorkload': 'uid=1',
  'istio.workload.zds.DelWorkload': 'uid=2',
  'istio.workload.zds.SnapshotSent': '',
  'istio.workload.zds.WorkloadRequest': 'add=1 del=2 snapshot_sent=3 keep=5',
  'istio.workload.zds.Ack': 'error=1',
  'istio.workload.zds.WorkloadResponse': 'ack=1',
};

const ENUMS: Readonly<Record<string, string>> = {
  'istio.workload.LoadBalancing.Scope': 'UNSPECIFIED_SCOPE=0 REGION=1 ZONE=2 SUBZONE=3 NODE=4 CLUSTER=5 NETWORK=6',
  'istio.workload.LoadBalancing.Mode': 'UNSPECIFIED_MODE=0 STRICT=1 FAILOVER=2 PASSTHROUGH=3',
  'istio.workload.LoadBalancing.HealthPolicy': 'ONLY_HEALTHY=0 ALLOW_ALL=1',
  'istio.workload.ApplicationTunnel.Protocol': 'NONE=0 PROXY=1',
  'istio.workload.IPFamilies': 'AUTOMATIC=0 IPV4_ONLY=1 IPV6_ONLY=2 DUAL=3',
  'istio.workload.Visibility': 'PUBLIC=0 NAMESPACE=1',
  'istio.workload.WorkloadStatus': 'HEALTHY=0 UNHEALTHY=1',
  'istio.workload.NetworkMode': 'STANDARD=0 HOST_NETWORK=1',
  'istio.workload.TunnelProtocol': 'NONE=0 HBONE=1 LEGACY_ISTIO_MTLS=2',
  'istio.workload.WorkloadType': 'DEPLOYMENT=0 CRONJOB=1 POD=2 JOB=3',
  'istio.workload.AppProtocol': 'UNKNOWN=0 HTTP11=1 HTTP2=2 GRPC=3 TCP=4 TLS=5',
  'istio.security.Scope': 'GLOBAL=0 NAMESPACE=1 WORKLOAD_SELECTOR=2',
  'istio.security.Action': 'ALLOW=0 DENY=1',
  'istio.workload.zds.Version': 'NOT_USED=0 V1=1',
};

const FILES: readonly DescFile[] = [file_authorization, file_citadel, file_discovery, file_workload, file_zds];

function messagesOf(messages: readonly DescMessage[]): DescMessage[] {
  return messages.flatMap(message => [message, ...messagesOf(message.nestedMessages)]);
}

const messages = messagesOf(FILES.flatMap(file => file.messages));

test('every message has the fields of the contract, by name and number', () => {
  const found = messages.map(({ typeName, fields }) => [typeName, fields.map(f => `${f.name}=${f.number}`).join(' ')]);
  assert.deepEqual(Object.fromEntries(found), MESSAGES);
});

test('every enum has the values of the contract', () => {
  const enums = [...FILES.flatMap(file => file.enums), ...messages.flatMap(message => message.nestedEnums)];
  const found = enums.map(({ typeName, values }) => [typeName, values.map(v => `${v.name}=${v.number}`).join(' ')]);
  assert.deepEqual(Object.fromEntries(found), ENUMS);
});

test('the two calls have the paths that peers use', () => {
  const methods = FILES.flatMap(file => file.services).flatMap(service => service.methods);
  assert.deepEqual(
    methods.map(method => `/${method.parent.typeName}/${method.name} ${method.methodKind}`),
    [
      '/istio.v1.auth.IstioCertificateService/CreateCertificate unary',
      '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources bidi_streaming',
    ],
  );
});
