// One control plane: sources feed the model, the model feeds the xDS server, the authority signs for the pods the model
// knows. Wiring, and the order of start and end; every part is somebody else's.
//
// States: opening (the authority and the doors) -> waiting for every source's first whole state -> serving -> closed. Until
// it serves, xDS clients are turned away and keep what they hold; certificates are signed as soon as their pods are known.
import {
  addressToJson,
  authorizationToJson,
  decodeAddressMessage,
  decodeAuthorizationMessage,
} from '@ambit/wire/resources';
import { type AdminServer, type Pages, serveAdmin } from './admin/admin-server.ts';
import { StateClaim } from './admin/state-claim.ts';
import { certificateAuthenticator } from './auth/certificate-authenticator.ts';
import type { Authenticator } from './auth/caller.ts';
import { firstOf } from './auth/first-of.ts';
import { LocalTokens } from './auth/local-token.ts';
import { openAuthority } from './authority.ts';
import { caAdminRoutes } from './ca/admin-routes.ts';
import type { CertificateAuthority } from './ca/certificate-authority.ts';
import { certificateHandler } from './ca/handler.ts';
import type { ControlConfig } from './config/config.ts';
import type { Diagnostic } from './diagnostic.ts';
import { faultText, type Log } from '@ambit/log';
import { ControlError } from './errors.ts';
import { type GrpcPorts, openGrpcPorts } from './grpc-ports.ts';
import { type ConfigMapWriter, createConfigMapWriter } from './kubernetes/config-map-writer.ts';
import { createKubeClient, type KubeClient } from '@ambit/kube';
import { createKubernetesSource } from './kubernetes/kubernetes-source.ts';
import { createTokenReviewer } from './kubernetes/token-reviewer.ts';
import { MeshModel } from './model/mesh-model.ts';
import type { XdsResource } from './model/resource.ts';
import { readObject } from './objects/index.ts';
import type { ObjectChange } from './objects/types.ts';
import { createFileSource, type FileSource } from './sources/file-source.ts';
import type { Source } from './sources/source.ts';
import { XdsServer } from './xds/server.ts';

export interface ControlPlaneStatus {
  readonly isReady: boolean;
  readonly plainPort: number | undefined;
  readonly securePort: number | undefined;
  readonly adminPort: number | undefined;
}

/** How often the callers of open streams are looked at, besides at every revocation: certificates and tokens end. */
const RECHECK_MS = 60_000;

export class ControlPlane implements AsyncDisposable {
  readonly #config: ControlConfig;
  readonly #log: Log;
  readonly #model: MeshModel;
  readonly #xds: XdsServer;
  readonly #closers: AsyncDisposableStack;
  readonly #sources: readonly Source[];
  readonly #files: FileSource | undefined;
  readonly #authority: CertificateAuthority;
  readonly #configMaps: ConfigMapWriter | undefined;
  #ports: GrpcPorts | undefined;
  #admin: AdminServer | undefined;
  /** What sources said before all of them had said everything; undefined once they have, and the mesh is served. */
  #early: ObjectChange[] | undefined = [];

  private constructor(config: ControlConfig, log: Log, parts: Parts) {
    this.#config = config;
    this.#log = log;
    this.#closers = parts.closers;
    this.#authority = parts.authority;
    this.#files = parts.files;
    this.#sources = parts.sources;
    this.#configMaps = parts.configMaps;
    this.#model = new MeshModel(config.settings);
    this.#xds = new XdsServer({
      log,
      authenticate: undefined,
      debounce: { quietMs: config.debounce, maxMs: config.debounceMax },
      limits: { maxClients: config.maxClients },
    });
  }

  /**
   * Opens everything and returns once the doors are open; `sync` then brings the first whole state.
   * @throws ControlError, KubeError when something that is needed can never work
   */
  static async open(config: ControlConfig, log: Log): Promise<ControlPlane> {
    await using closers = new AsyncDisposableStack();
    const claim = closers.use(await StateClaim.take(config.state));
    const kube =
      config.cluster === 'none' ? undefined : createKubeClient(kubeAccess(config), { userAgent: 'ambit-control' });
    if (kube !== undefined) closers.defer(() => kube.close());
    const authority = await openAuthority(config, kube, log);
    closers.defer(async () => authority.close());
    if (kube !== undefined) {
      // Each writes its own list over the other's in the ConfigMap, so a second replica would un-revoke what the first revoked.
      log.warn('Revocations are kept in the state directory and not shared between replicas', {
        state: config.state,
        next: 'run one replica, with a state directory that outlives the pod',
      });
    }
    const tokens = await LocalTokens.open({ stateDirectory: config.state, trustDomain: config.trustDomain });
    const files = config.files.length === 0 ? undefined : createFileSource({ paths: config.files, log });
    const sources: readonly Source[] = [
      ...(files === undefined ? [] : [files]),
      ...(kube === undefined ? [] : [kubernetesSource(config, kube, log)]),
    ];
    if (sources.length === 0) {
      throw new ControlError('config.no_source', 'there is nothing to describe the mesh', {
        next: 'name a directory of Kubernetes YAML (ambit control DIR), or a cluster: --kubernetes kubeconfig',
      });
    }
    for (const source of sources) closers.defer(async () => source.close());
    const configMaps =
      kube !== undefined && publishesTrust(config) ? createConfigMapWriter({ client: kube, log }) : undefined;
    if (configMaps !== undefined) closers.defer(async () => configMaps.close());
    const parts: Parts = { closers, claim, authority, tokens, files, sources, kube, configMaps };
    const plane = new ControlPlane(config, log, { ...parts, closers: closers.move() });
    try {
      await plane.#openDoors(parts);
    } catch (error) {
      await plane.close();
      throw error;
    }
    return plane;
  }

  get status(): ControlPlaneStatus {
    return {
      isReady: this.#early === undefined,
      plainPort: this.#ports?.plainPort,
      securePort: this.#ports?.securePort,
      adminPort: this.#admin?.port,
    };
  }

  /** Starts the sources; resolves when all have delivered and the state is served. @throws ControlError, KubeError */
  async sync(): Promise<void> {
    const sink = (changes: readonly ObjectChange[]): void => this.#take(changes);
    await Promise.all(this.#sources.map(async source => source.start(sink)));
    this.#xds.update(this.#model.apply(this.#early ?? []));
    this.#early = undefined;
    const { addresses, authorizations } = this.#xds.status();
    this.#log.info('Serving the mesh', { addresses, authorizations });
    for (const { status } of this.#sources) {
      for (const problem of status.problems)
        this.#log.warn(problem.message, { code: problem.code, next: problem.remedy });
    }
  }

  async close(): Promise<void> {
    this.#xds.close();
    await this.#closers.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #take(changes: readonly ObjectChange[]): void {
    this.#configMaps?.observe(changes);
    // Until all is there, a service without its pods would look like one without endpoints.
    if (this.#early !== undefined) this.#early.push(...changes);
    else this.#xds.update(this.#model.apply(changes));
  }

  async #openDoors({ claim, tokens, kube }: Parts): Promise<void> {
    const config = this.#config;
    const authority = this.#authority;
    const log = this.#log;
    const authenticator = callers(config, authority, tokens, kube, log);
    const createCertificate = certificateHandler({
      ca: authority,
      authenticator,
      directory: this.#model,
      trustedAccounts: config.trustedNodeAccounts,
    });
    const onBug = (error: unknown, path: string): void => {
      log.error('A call failed by a fault of ours', {
        path,
        error: faultText(error),
      });
    };
    this.#ports = await openGrpcPorts({
      plain: config.grpcAddress,
      secure: config.secureGrpcAddress,
      plainServices: { deltaResources: this.#xds.handler, onBug },
      secureServices: { deltaResources: this.#xds.handlerFor(authenticator), createCertificate, onBug },
      authority,
      rootNamespace: config.rootNamespace,
      servingNames: config.servingNames,
      maxConnectionAgeMs: config.maxConnectionAge,
      log: log.scope('grpc'),
    });
    this.#closers.defer(async () => this.#ports?.close());
    // Streams outlive the proofs that they began with.
    const recheck = (): void => void this.#xds.recheck();
    const rechecking = setInterval(recheck, RECHECK_MS).unref();
    this.#closers.defer(() => clearInterval(rechecking));
    this.#closers.defer(authority.listen({ changed: recheck }));
    this.#admin = await serveAdmin({
      listen: config.adminAddress,
      claim,
      pages: this.#pages(),
      isReady: () => this.#early === undefined,
      actions: caAdminRoutes(authority, tokens),
      log: log.scope('admin'),
    });
    this.#closers.defer(async () => this.#admin?.close());
    this.#publishTrust();
  }

  /** Roots and revocation lists into every namespace, where pods mount them. */
  #publishTrust(): void {
    const writer = this.#configMaps;
    if (writer === undefined) return;
    const publish = (): void => writer.publish({ rootCert: this.#authority.rootsPem, crl: this.#authority.crlPem });
    publish();
    this.#closers.defer(this.#authority.listen({ roots: publish, crl: publish }));
  }

  #pages(): Pages {
    const one = (value: () => unknown) => () => [`${JSON.stringify(value())}\n`];
    return {
      '/debug/syncz': one(() => this.#xds.status()),
      '/debug/sources': one(() => this.#sources.map(({ status }) => status)),
      '/debug/diagnostics': one(() => this.diagnostics()),
      '/debug/certificates': one(() => this.#authority.list().map(toCertificateJson)),
      '/debug/authority': one(() => this.#authority.status),
      '/debug/config': one(() => ({ ...this.#config.settings, origins: this.#config.origins })),
      '/debug/addresses': () => listed(this.#model.addresses(), value => addressToJson(decodeAddressMessage(value))),
      '/debug/authorizations': () =>
        listed(this.#model.authorizations(), value => authorizationToJson(decodeAuthorizationMessage(value))),
      '/ca/crl.pem': one(() => this.#authority.crlPem),
    };
  }

  /** Everything there is to say about the objects, with the place where a file has them. */
  diagnostics(): readonly Diagnostic[] {
    const found = [...this.#sources.flatMap(({ status }) => status.problems), ...this.#model.diagnostics()];
    return found.map(each =>
      each.place !== undefined || each.ref === undefined
        ? each
        : { ...each, place: this.#files?.placeOf(each.ref, each.path) },
    );
  }
}

interface Parts {
  readonly closers: AsyncDisposableStack;
  readonly claim: StateClaim;
  readonly authority: CertificateAuthority;
  readonly tokens: LocalTokens;
  readonly files: FileSource | undefined;
  readonly sources: readonly Source[];
  readonly kube: KubeClient | undefined;
  readonly configMaps: ConfigMapWriter | undefined;
}

/** Beside another control plane of the cluster, from outside, the ConfigMaps are that one's. */
function publishesTrust({ publishTrust, cluster }: ControlConfig): boolean {
  return publishTrust === 'auto' ? cluster === 'in-cluster' : publishTrust === 'on';
}

function kubeAccess({ cluster, kubeconfig, context }: ControlConfig) {
  return {
    kubeconfig: kubeconfig === '' ? undefined : kubeconfig,
    context: context === '' ? undefined : context,
    inCluster: cluster === 'in-cluster',
  };
}

function kubernetesSource(config: ControlConfig, client: KubeClient, log: Log): Source {
  return createKubernetesSource({
    ...kubeAccess(config),
    client,
    namespaces: config.namespaces.length === 0 ? undefined : config.namespaces,
    log,
    readObject,
  });
}

/** Certificate, then our own tokens, then the cluster's: the first whose credentials are there decides. */
function callers(
  config: ControlConfig,
  authority: CertificateAuthority,
  tokens: LocalTokens,
  kube: KubeClient | undefined,
  log: Log,
): Authenticator {
  const { trustDomain, clusterId, tokenAudiences } = config;
  return firstOf(
    [
      certificateAuthenticator({ trustDomain, isRevoked: serial => authority.isRevoked(serial), now: Date.now }),
      tokens,
      ...(kube === undefined
        ? []
        : [createTokenReviewer({ client: kube, trustDomain, clusterId, audiences: tokenAudiences, log })]),
    ],
    log,
  );
}

function toCertificateJson(each: ReturnType<CertificateAuthority['list']>[number]): object {
  const { serial, identity, node, issuedAtMs, notAfterMs, isRevoked } = each;
  return {
    serial,
    identity,
    node,
    notBefore: new Date(issuedAtMs).toISOString(),
    notAfter: new Date(notAfterMs).toISOString(),
    revoked: isRevoked,
  };
}

/** A JSON array, resource by resource. */
function* listed(resources: Iterable<XdsResource>, toJson: (value: Uint8Array) => unknown): Generator<string> {
  let between = '[';
  for (const { name, version, aliases, value } of resources) {
    yield `${between}${JSON.stringify({ name, version, aliases, resource: toJson(value) })}`;
    between = ',\n';
  }
  yield between === '[' ? '[]\n' : ']\n';
}
