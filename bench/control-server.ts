// The process under test: model, xDS server and gRPC listener as `ambit control` puts them together, on a generated mesh.
// Arguments: number of workloads, number of nodes.
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { createGrpcHandler, grpcServerOptions, keepSessions } from '@ambit/wire/grpc-server';
import { SILENT_LOG } from '@ambit/log';
import { MeshModel } from '../packages/control/src/model/mesh-model.ts';
import { type KubeObject, type Metadata, type ObjectChange, refOf } from '../packages/control/src/objects/types.ts';
import { DEFAULT_SETTINGS } from '../packages/control/src/settings.ts';
import { XdsServer } from '../packages/control/src/xds/server.ts';
import { type FromServer, monotonicNs, type ToServer } from './control-messages.ts';

const [workloads = 0, nodes = 1] = process.argv.slice(2).map(Number);
const NAMESPACES = 100;
const PODS_PER_SERVICE = 100;

function metadata(name: string, namespace: string, labels: Readonly<Record<string, string>> = {}): Metadata {
  return {
    name,
    namespace,
    uid: '',
    labels,
    annotations: {},
    generateName: '',
    creationTime: undefined,
    isDeleting: false,
    controller: undefined,
  };
}

const namespaceOf = (app: number) => `team-${app % NAMESPACES}`;
const addressOf = (number: number, network: number) =>
  `${network}.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;

function service(index: number): KubeObject {
  return {
    kind: 'Service',
    metadata: metadata(`service-${index}`, namespaceOf(index)),
    spec: {
      type: 'ClusterIP',
      clusterIPs: [addressOf(index, 11)],
      ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP', appProtocol: '' }],
      selector: { app: `app-${index}` },
      ipFamilies: ['IPv4'],
      internalTrafficPolicy: 'Cluster',
      trafficDistribution: '',
      publishNotReadyAddresses: false,
    },
  };
}

/** The same pod has another address in each generation: the smallest change that nodes must hear of. */
function pod(index: number, generation: number): KubeObject {
  const app = Math.floor(index / PODS_PER_SERVICE);
  return {
    kind: 'Pod',
    metadata: metadata(`app-${app}-5d4f8c7b9-${index}`, namespaceOf(app), { app: `app-${app}` }),
    spec: {
      serviceAccountName: `app-${app}`,
      nodeName: `node-${index % nodes}`,
      hostNetwork: false,
      ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }],
    },
    status: { phase: 'Running', podIPs: [addressOf(index, 10 + 2 * generation)], isReady: true },
  };
}

function* mesh(): Generator<KubeObject> {
  for (let i = 0; i < NAMESPACES; i++) {
    yield { kind: 'Namespace', metadata: metadata(`team-${i}`, '', { 'istio.io/dataplane-mode': 'ambient' }) };
  }
  for (let i = 0; i < nodes; i++) yield { kind: 'Node', metadata: metadata(`node-${i}`, '') };
  for (let i = 0; i * PODS_PER_SERVICE < workloads; i++) yield service(i);
  for (let i = 0; i < workloads; i++) yield pod(i, 0);
}

const changeOf = (object: KubeObject): ObjectChange => ({ ref: refOf(object), object });
const say = (message: FromServer) => void process.send?.(message);

const startedAt = monotonicNs();
const model = new MeshModel(DEFAULT_SETTINGS);
const xds = new XdsServer({ log: SILENT_LOG, authenticate: undefined });
xds.update(model.apply([...mesh()].map(changeOf)));
const modelMs = (monotonicNs() - startedAt) / 1e6;

const listener = createServer(grpcServerOptions(), createGrpcHandler({ deltaResources: xds.handler }));
keepSessions(listener);
listener.listen(0, '127.0.0.1', () => {
  const { port } = listener.address() as AddressInfo;
  say({ kind: 'ready', port, addresses: xds.status().addresses, modelMs });
});

process.on('message', (message: ToServer) => {
  if (message.kind === 'status') {
    const { clients, counters } = xds.status();
    say({ kind: 'status', clients: clients.length, dropped: counters.dropped });
    return;
  }
  const { index } = message;
  const object = pod((index * 7_919) % workloads, 1);
  const at = monotonicNs();
  const delta = model.apply([changeOf(object)]);
  xds.update(delta);
  const [name] = delta.addresses.keys();
  say({ kind: 'changed', index, at, name: name ?? '' });
});
process.on('disconnect', () => process.exit(0));
