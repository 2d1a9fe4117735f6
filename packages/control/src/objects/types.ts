// The Kubernetes objects the control plane reads, as far as it reads them: fields that nothing uses are dropped when an
// object enters, so a mesh of 100 000 pods stays small. Field names are those of the Kubernetes and Istio APIs. Values
// are syntactically right (types, required fields) and nothing more; what they mean is the translation's business.

export type Labels = Readonly<Record<string, string>>;

/** What is kept of `metadata`. Times are milliseconds since the epoch; NaN-free: undefined when absent or unreadable. */
export interface Metadata {
  readonly name: string;
  /** Empty for objects without a namespace (Namespace, Node, GatewayClass). */
  readonly namespace: string;
  readonly uid: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly generateName: string;
  readonly creationTime: number | undefined;
  readonly isDeleting: boolean;
  /** The owner with `controller: true`, if any. */
  readonly controller: { readonly kind: string; readonly name: string } | undefined;
}

interface Base<K extends string> {
  readonly kind: K;
  readonly metadata: Metadata;
}

export type NamespaceObject = Base<'Namespace'>;
export type NodeObject = Base<'Node'>;
export type ServiceAccountObject = Base<'ServiceAccount'>;

export interface ContainerPort {
  readonly name: string;
  readonly containerPort: number;
  /** `TCP` when the object does not say. */
  readonly protocol: string;
}

export interface PodObject extends Base<'Pod'> {
  readonly spec: {
    readonly serviceAccountName: string;
    readonly nodeName: string;
    readonly hostNetwork: boolean;
    /** Ports of containers, then of init containers with `restartPolicy: Always`, in order. */
    readonly ports: readonly ContainerPort[];
  };
  readonly status: {
    readonly phase: string;
    /** `podIPs`, else the one `podIP`, as written. */
    readonly podIPs: readonly string[];
    readonly isReady: boolean;
  };
}

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  /** A number, a container port's name, or undefined (the same as `port`). */
  readonly targetPort: number | string | undefined;
  readonly protocol: string;
  readonly appProtocol: string;
}

export interface ServiceObject extends Base<'Service'> {
  readonly spec: {
    readonly type: string;
    readonly clusterIPs: readonly string[];
    readonly ports: readonly ServicePort[];
    readonly selector: Labels;
    readonly ipFamilies: readonly string[];
    readonly internalTrafficPolicy: string;
    readonly trafficDistribution: string;
    readonly publishNotReadyAddresses: boolean;
  };
}

export interface SliceEndpoint {
  readonly addresses: readonly string[];
  /** Undefined counts as ready. */
  readonly ready: boolean | undefined;
  readonly nodeName: string;
  readonly targetRef:
    | { readonly kind: string; readonly namespace: string; readonly name: string; readonly uid: string }
    | undefined;
}

export interface EndpointSliceObject extends Base<'EndpointSlice'> {
  readonly addressType: string;
  readonly endpoints: readonly SliceEndpoint[];
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: string }[];
}

/** `labelSelector.matchLabels` of Istio's objects; undefined: there is none; empty: it selects everything. */
export type WorkloadSelector = Labels | undefined;

export interface EntryPort {
  readonly number: number;
  readonly name: string;
  readonly protocol: string;
  /** 0 when absent. */
  readonly targetPort: number;
}

/** The body of a WorkloadEntry, which is also an endpoint of a ServiceEntry. */
export interface WorkloadEntrySpec {
  /** An IP address, a host name, or empty. */
  readonly address: string;
  readonly ports: Readonly<Record<string, number>>;
  readonly labels: Labels;
  readonly network: string;
  readonly locality: string;
  readonly weight: number;
  readonly serviceAccount: string;
}

export interface WorkloadEntryObject extends Base<'WorkloadEntry'> {
  readonly spec: WorkloadEntrySpec;
}

export interface ServiceEntryObject extends Base<'ServiceEntry'> {
  readonly spec: {
    readonly hosts: readonly string[];
    readonly addresses: readonly string[];
    readonly ports: readonly EntryPort[];
    /** `MESH_EXTERNAL` or `MESH_INTERNAL`. */
    readonly location: string;
    /** `NONE`, `STATIC`, `DNS`, `DNS_ROUND_ROBIN` or `DYNAMIC_DNS`. */
    readonly resolution: string;
    readonly endpoints: readonly WorkloadEntrySpec[];
    readonly workloadSelector: WorkloadSelector;
    readonly subjectAltNames: readonly string[];
  };
  /** Addresses that were allocated automatically, with the host each belongs to (empty host: all hosts). */
  readonly status: { readonly addresses: readonly { readonly value: string; readonly host: string }[] };
}

export interface PolicySource {
  readonly principals: readonly string[];
  readonly notPrincipals: readonly string[];
  readonly requestPrincipals: readonly string[];
  readonly notRequestPrincipals: readonly string[];
  readonly namespaces: readonly string[];
  readonly notNamespaces: readonly string[];
  readonly serviceAccounts: readonly string[];
  readonly notServiceAccounts: readonly string[];
  readonly ipBlocks: readonly string[];
  readonly notIpBlocks: readonly string[];
  readonly remoteIpBlocks: readonly string[];
  readonly notRemoteIpBlocks: readonly string[];
  readonly trustDomains: readonly string[];
  readonly notTrustDomains: readonly string[];
}

export interface PolicyOperation {
  readonly hosts: readonly string[];
  readonly notHosts: readonly string[];
  readonly ports: readonly string[];
  readonly notPorts: readonly string[];
  readonly methods: readonly string[];
  readonly notMethods: readonly string[];
  readonly paths: readonly string[];
  readonly notPaths: readonly string[];
}

export interface PolicyCondition {
  readonly key: string;
  readonly values: readonly string[];
  readonly notValues: readonly string[];
}

export interface PolicyRule {
  readonly from: readonly PolicySource[];
  readonly to: readonly PolicyOperation[];
  readonly when: readonly PolicyCondition[];
}

export interface TargetRef {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
}

export interface AuthorizationPolicyObject extends Base<'AuthorizationPolicy'> {
  readonly spec: {
    /** `ALLOW` when absent; others are `DENY`, `AUDIT`, `CUSTOM`. */
    readonly action: string;
    readonly selector: WorkloadSelector;
    readonly targetRefs: readonly TargetRef[];
    readonly rules: readonly PolicyRule[];
  };
}

export type MtlsMode = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT';

export interface PeerAuthenticationObject extends Base<'PeerAuthentication'> {
  readonly spec: {
    readonly selector: WorkloadSelector;
    readonly mtls: MtlsMode;
    /** By port number; keys are as written, decimal. */
    readonly portLevelMtls: Readonly<Record<string, MtlsMode>>;
  };
}

/** One of `labelSelector.matchExpressions`. */
export interface LabelExpression {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
}

export interface GatewayListener {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  /** `Terminate`, `Passthrough`, or empty. */
  readonly tlsMode: string;
  readonly allowedRoutes: {
    /** `All`, `Selector` or `Same`. */
    readonly from: string;
    readonly selector: WorkloadSelector;
    /** What must hold besides `selector`. */
    readonly expressions?: readonly LabelExpression[];
  };
}

export interface GatewayObject extends Base<'Gateway'> {
  readonly spec: { readonly gatewayClassName: string; readonly listeners: readonly GatewayListener[] };
  /** Type is `IPAddress` when absent. */
  readonly status: { readonly addresses: readonly { readonly type: string; readonly value: string }[] };
}

export interface GatewayClassObject extends Base<'GatewayClass'> {
  readonly spec: { readonly controllerName: string };
}

/** Kept for the waypoints to come; the translation does not read them. */
export interface RouteObject extends Base<'HTTPRoute' | 'GRPCRoute'> {
  readonly spec: { readonly parentRefs: readonly TargetRef[] };
}

export type KubeObject =
  | NamespaceObject
  | NodeObject
  | ServiceAccountObject
  | PodObject
  | ServiceObject
  | EndpointSliceObject
  | WorkloadEntryObject
  | ServiceEntryObject
  | AuthorizationPolicyObject
  | PeerAuthenticationObject
  | GatewayObject
  | GatewayClassObject
  | RouteObject;

export type Kind = KubeObject['kind'];

/** The object of one kind. */
export type ObjectOf<K extends Kind> = Extract<KubeObject, { readonly kind: K }>;

/** Which object: unique among all sources together. */
export interface ObjectRef {
  readonly kind: Kind;
  /** Empty for objects without a namespace. */
  readonly namespace: string;
  readonly name: string;
}

/** Where an object was written down, for diagnostics; lines and columns count from 1. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** One object appeared, changed, or (object undefined) is gone. */
export interface ObjectChange {
  readonly ref: ObjectRef;
  readonly object: KubeObject | undefined;
}

export function refOf(object: KubeObject): ObjectRef {
  return { kind: object.kind, namespace: object.metadata.namespace, name: object.metadata.name };
}

/** `Kind/namespace/name`, for maps and messages. */
export function formatRef({ kind, namespace, name }: ObjectRef): string {
  return namespace === '' ? `${kind}/${name}` : `${kind}/${namespace}/${name}`;
}
