// A Kubernetes API server for tests: real HTTP or HTTPS, an in-memory store, the parts of the API that the mesh uses.
//   const server = await startApiServer({ auth: { tokens: ['secret'] } });
//   server.put({ apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'shop', name: 'web' }, … });
//   createKubernetesSource({ kubeconfig: server.writeKubeconfig(directory), … }); …; await server.close();
// Speaks: discovery (/apis/GROUP, /apis/GROUP/VERSION), list with limit and continue, watch with bookmarks, timeoutSeconds,
// sendInitialEvents and 410, fieldSelector (=, !=) and labelSelector (=), get, create and update with optimistic concurrency, JSON merge patch
// of objects and of their status, objects as metadata alone, TokenReview, bearer tokens and client certificates. Built-in lists carry no kind in their items, lists of CRDs do, as in the original.
// One file, because all of it is one server's state. Faults: see `Faults`. Does not do: validation, defaults, admission, conversion (a version is only a name).
import http from 'node:http';
import https from 'node:https';
import { writeFileSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import path from 'node:path';
import type { TLSSocket } from 'node:tls';
import { mergePatch } from './merge-patch.ts';
import { ObjectStore, type StoredObject, type StoreEvent } from './object-store.ts';
import { BUILT_IN, type ServedResource } from './served-resources.ts';
import { matches, type Selectors, selectorsOf } from './selectors.ts';
import { Waiting } from './waiting.ts';

export type { StoredObject };

export interface ApiServerOptions {
  /** Undefined: plain HTTP on loopback. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCa?: string };
  /** Who is let in; undefined: everybody. Client certificates are those of `tls.clientCa`. */
  readonly auth?: { readonly tokens: readonly string[] };
  /** A fixed port, to come back at the same address. */
  readonly port?: number;
  /** Objects that outlive this server: the store of an earlier one. */
  readonly store?: ObjectStore;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly isWatch: boolean;
  readonly accept: string;
  readonly body: unknown;
  readonly status: number;
}

export interface ReviewedToken {
  readonly username: string;
  readonly groups: readonly string[];
  readonly audiences: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** What can be made to go wrong; each holds until it is changed back. */
export interface Faults {
  /** Answers 403 where true. */
  forbid: ((request: { verb: string; plural: string; namespace: string; method: string }) => boolean) | undefined;
  /** Answers with this status where a number is returned, before anything else is looked at. */
  fail: ((path: string, isWatch: boolean) => number | undefined) | undefined;
  /** Watches are accepted (head sent) and then silent, events and bookmarks included. */
  stallWatches: boolean;
  /** Requests are taken and never answered. */
  isStuck: boolean;
  /** Expired versions: an ERROR event in the stream (as the watch cache does) or the status 410. */
  expiredAs: 'event' | 'status';
  /** The next event of this plural is cut in its middle and its connection broken. Cleared by itself. */
  cutNextEvent: string | undefined;
  /** So many patches are refused as lost races (409), as when too many others write the same object. */
  conflicts: number;
  /** TokenReview answers as a server that does not know audiences. */
  ignoresAudiences: boolean;
  /** Called after each page of a list that has more. */
  afterPage: (() => void) | undefined;
}

interface Watcher {
  readonly response: http.ServerResponse;
  readonly resource: ServedResource;
  readonly namespace: string;
  readonly selectors: Selectors;
  readonly wantsBookmarks: boolean;
  readonly isMetadataOnly: boolean;
  readonly apiVersion: string;
}

export class ApiServer {
  readonly store: ObjectStore;
  readonly requests: SeenRequest[] = [];
  readonly tokens = new Map<string, ReviewedToken>();
  readonly faults: Faults = {
    forbid: undefined,
    fail: undefined,
    stallWatches: false,
    isStuck: false,
    expiredAs: 'event',
    cutNextEvent: undefined,
    conflicts: 0,
    ignoresAudiences: false,
    afterPage: undefined,
  };
  readonly #options: ApiServerOptions;
  readonly #server: http.Server;
  readonly #resources: ServedResource[] = [...BUILT_IN];
  readonly #sockets = new Set<Socket>();
  readonly #watchers = new Set<Watcher>();
  readonly #waiting = new Waiting();
  readonly #unlisten: () => void;

  constructor(options: ApiServerOptions) {
    this.#options = options;
    this.store = options.store ?? new ObjectStore();
    const handler: http.RequestListener = (request, response) => {
      this.#handle(request, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    };
    const { tls } = options;
    this.#server =
      tls === undefined
        ? http.createServer(handler)
        : https.createServer(
            {
              cert: tls.cert,
              key: tls.key,
              ca: tls.clientCa,
              requestCert: tls.clientCa !== undefined,
              rejectUnauthorized: false,
            },
            handler,
          );
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#unlisten = this.store.listen(event => this.#spread(event));
  }

  async listen(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen(this.#options.port ?? 0, '127.0.0.1', resolve);
    await promise;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `${this.#options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${String(this.port)}`;
  }

  get watchCount(): number {
    return this.#watchers.size;
  }

  /** Creates or replaces. @throws Error for a kind that is not served */
  put(object: StoredObject): StoredObject {
    return this.store.put(keyOf(this.#byKind(object.kind)), object);
  }

  remove(kind: string, namespace: string, name: string): boolean {
    return this.store.remove(keyOf(this.#byKind(kind)), namespace, name);
  }

  get(kind: string, namespace: string, name: string): StoredObject | undefined {
    return this.store.get(keyOf(this.#byKind(kind)), namespace, name);
  }

  /** As installing a CRD. */
  addResource(resource: ServedResource): void {
    this.#resources.push(resource);
  }

  /** As removing a CRD: its objects are deleted, its watches end, its paths are 404. */
  removeResource(plural: string): void {
    const index = this.#resources.findIndex(resource => resource.plural === plural);
    const [resource] = index < 0 ? [] : this.#resources.splice(index, 1);
    if (resource === undefined) return;
    for (const { metadata } of this.store.all(keyOf(resource))) {
      this.store.remove(keyOf(resource), metadata.namespace ?? '', metadata.name);
    }
    this.endWatches(plural);
  }

  /** Sends the present version to every watch that asked for bookmarks. */
  bookmark(): void {
    for (const watcher of this.#watchers) {
      if (watcher.wantsBookmarks) this.#bookmark(watcher);
    }
  }

  /** Writes bytes to the watches of a resource, whatever they are. */
  sendRaw(plural: string, text: string): void {
    for (const watcher of this.#watchers) if (watcher.resource.plural === plural) watcher.response.write(text);
  }

  /** Ends watches in good order; all of them, or one resource's. */
  endWatches(plural?: string): void {
    for (const { resource, response } of this.#watchers) {
      if (plural === undefined || resource.plural === plural) response.end();
    }
  }

  /** Breaks every connection. */
  breakConnections(): void {
    this.#server.closeAllConnections();
  }

  /** Resolves once `condition` holds; looked at after each request, watch and event. Bounded by the test's own timeout. */
  async until(condition: () => boolean): Promise<void> {
    await this.#waiting.until(condition);
  }

  /** @returns the path of a kubeconfig with one context, `test` */
  writeKubeconfig(directory: string, user: Readonly<Record<string, string>> = {}): string {
    const { tls } = this.#options;
    const cluster = {
      server: this.url,
      ...(tls === undefined
        ? { 'insecure-skip-tls-verify': true }
        : { 'certificate-authority-data': Buffer.from(tls.cert).toString('base64') }),
    };
    const token = this.#options.auth?.tokens[0];
    const file = path.join(directory, `kubeconfig-${String(this.port)}.json`);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { ...(token === undefined ? {} : { token }), ...user } }],
      contexts: [{ name: 'test', context: { cluster: 'c', user: 'u' } }],
    };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    return file;
  }

  async close(): Promise<void> {
    this.#unlisten();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    // Not closeAllConnections: a socket in its TLS handshake is no HTTP connection yet, and would be waited for.
    for (const socket of this.#sockets) socket.destroy();
    await promise;
  }

  #byKind(kind: string): ServedResource {
    const found = this.#resources.find(resource => resource.kind === kind);
    if (found === undefined) throw new Error(`${kind} is not served`);
    return found;
  }

  async #handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://server');
    const isWatch = url.searchParams.get('watch') === 'true' || url.searchParams.get('watch') === '1';
    const method = request.method ?? 'GET';
    const body = await readJson(request);
    if (this.faults.isStuck) return;
    const answer = this.#answer(method, url, isWatch, body, request);
    this.requests.push({
      method,
      path: url.pathname,
      query: url.searchParams,
      isWatch,
      accept: request.headers.accept ?? '',
      body,
      status: answer.status,
    });
    if (answer.watch === undefined) sendJson(response, answer.status, answer.body);
    else this.#startWatch(response, answer.watch, url.searchParams);
    this.#waiting.changed();
  }

  #answer(method: string, url: URL, isWatch: boolean, body: unknown, request: http.IncomingMessage): Answer {
    const failure = this.faults.fail?.(url.pathname, isWatch);
    if (failure !== undefined) return status(failure, 'Injected', 'a fault of the test');
    if (!this.#isLetIn(request)) return status(401, 'Unauthorized', 'Unauthorized');
    const discovered = this.#discover(url.pathname);
    if (discovered !== undefined) return discovered;
    const target = this.#target(url.pathname);
    if (target === undefined) return status(404, 'NotFound', 'the server could not find the requested resource');
    const verb = verbOf(method, isWatch, target.name);
    const { resource, namespace, name } = target;
    const isMetadataOnly = (request.headers.accept ?? '').includes('as=PartialObjectMetadata');
    if (this.faults.forbid?.({ verb, plural: pluralOf(target), namespace, method }) === true) {
      const where = namespace === '' ? 'at the cluster scope' : `in the namespace "${namespace}"`;
      const what = `cannot ${verb} resource "${pluralOf(target)}" in API group "${resource.group}" ${where}`;
      return status(403, 'Forbidden', `${resource.plural} is forbidden: User "test" ${what}`);
    }
    if (resource.plural === 'tokenreviews') return this.#review(body);
    if (method === 'POST') return this.#create(target, body);
    if (method === 'PUT') return this.#update(target, body);
    if (method === 'PATCH') return this.#patch(target, body, request.headers['content-type']);
    if (name !== '') {
      const found = this.store.get(keyOf(resource), namespace, name);
      return found === undefined
        ? notFound(resource, name)
        : { status: 200, body: asVersion(found, target.apiVersion) };
    }
    return isWatch
      ? this.#watch(target, url.searchParams, isMetadataOnly)
      : this.#list(target, url.searchParams, isMetadataOnly);
  }

  #isLetIn(request: http.IncomingMessage): boolean {
    const { auth } = this.#options;
    if (auth === undefined) return true;
    if ((request.socket as Partial<TLSSocket>).authorized === true) return true;
    return auth.tokens.some(token => request.headers.authorization === `Bearer ${token}`);
  }

  #discover(pathname: string): Answer | undefined {
    const [, root, group, version, ...more] = pathname.split('/');
    if (root !== 'apis' || group === undefined || more.length > 0) return undefined;
    const resources = this.#resources.filter(resource => resource.group === group);
    const versions = [...new Set(resources.flatMap(resource => resource.versions))];
    const [preferred] = versions;
    if (preferred === undefined) return status(404, 'NotFound', 'the server could not find the requested resource');
    const entry = (name: string): object => ({ groupVersion: `${group}/${name}`, version: name });
    if (version === undefined) {
      const found = { kind: 'APIGroup', apiVersion: 'v1', name: group };
      return { status: 200, body: { ...found, versions: versions.map(entry), preferredVersion: entry(preferred) } };
    }
    if (!versions.includes(version)) return status(404, 'NotFound', 'no such version');
    const list = resources
      .filter(resource => resource.versions.includes(version))
      .map(({ plural, kind, isNamespaced }) => ({
        name: plural,
        kind,
        namespaced: isNamespaced,
        verbs: ['list', 'watch'],
      }));
    const head = { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: `${group}/${version}` };
    return { status: 200, body: { ...head, resources: list } };
  }

  #target(pathname: string): Target | undefined {
    const [, root, ...steps] = pathname.split('/').map(decodeURIComponent);
    const group = root === 'apis' ? (steps.shift() ?? '') : root === 'api' ? '' : undefined;
    const version = steps.shift();
    if (group === undefined || version === undefined) return undefined;
    const namespace = steps[0] === 'namespaces' && steps.length > 2 ? (steps.splice(0, 2)[1] ?? '') : '';
    const [plural, name = '', subresource = '', ...more] = steps;
    const resource = this.#resources.find(
      candidate => candidate.group === group && candidate.plural === plural && candidate.versions.includes(version),
    );
    if (resource === undefined || more.length > 0 || !['', 'status'].includes(subresource)) return undefined;
    return { resource, namespace, name, subresource, apiVersion: group === '' ? version : `${group}/${version}` };
  }

  #list({ resource, namespace, apiVersion }: Target, query: URLSearchParams, isMetadataOnly: boolean): Answer {
    const token = query.get('continue') ?? '';
    const saved = token === '' ? undefined : this.store.snapshot(token);
    if (token !== '' && saved === undefined) {
      return status(410, 'Expired', 'The provided continue parameter is too old to display a consistent list result.');
    }
    const selectors = selectorsOf(query);
    const rest =
      saved?.rest ??
      this.store.all(keyOf(resource)).filter(object => isIn(object, namespace) && matches(object, selectors));
    const version = saved?.version ?? this.store.version;
    const limit = Number(query.get('limit') ?? 0);
    const page = limit > 0 ? rest.slice(0, limit) : rest;
    const next = page.length < rest.length ? this.store.saveSnapshot(version, rest.slice(page.length)) : undefined;
    const items = page.map(object => {
      if (isMetadataOnly) return metadataOf(object);
      return resource.isBuiltIn ? withoutType(object) : asVersion(object, apiVersion);
    });
    const metadata = { resourceVersion: String(version), ...(next === undefined ? {} : { continue: next }) };
    if (next !== undefined) this.faults.afterPage?.();
    return { status: 200, body: { kind: `${resource.kind}List`, apiVersion, metadata, items } };
  }

  #watch(target: Target, query: URLSearchParams, isMetadataOnly: boolean): Answer {
    const from = Number(query.get('resourceVersion') ?? 0);
    const { resource, namespace, apiVersion } = target;
    const past = from === 0 ? this.#synthetic(resource) : this.store.since(from, keyOf(resource));
    if (past === undefined && this.faults.expiredAs === 'status') {
      return status(410, 'Expired', `too old resource version: ${String(from)}`);
    }
    const selectors = selectorsOf(query);
    const wantsBookmarks = query.get('allowWatchBookmarks') === 'true';
    return {
      status: 200,
      body: undefined,
      watch: { resource, namespace, apiVersion, selectors, wantsBookmarks, isMetadataOnly, past },
    };
  }

  #synthetic(resource: ServedResource): readonly StoreEvent[] {
    const { version } = this.store;
    return this.store
      .all(keyOf(resource))
      .map(object => ({ version, resource: keyOf(resource), object, previous: undefined }));
  }

  #startWatch(response: http.ServerResponse, start: WatchStart, query: URLSearchParams): void {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const { past, ...rest } = start;
    const watcher: Watcher = { ...rest, response };
    if (past === undefined) {
      const gone = status(410, 'Expired', 'too old resource version').body;
      response.end(`${JSON.stringify({ type: 'ERROR', object: gone })}\n`);
      return;
    }
    this.#watchers.add(watcher);
    const seconds = Number(query.get('timeoutSeconds') ?? 0);
    const timer = seconds > 0 ? setTimeout(() => response.end(), seconds * 1000).unref() : undefined;
    response.once('close', () => {
      clearTimeout(timer);
      this.#watchers.delete(watcher);
      this.#waiting.changed();
    });
    for (const event of past) this.#send(watcher, event);
    // A watch that begins as a list does says where that ends.
    if (query.get('sendInitialEvents') === 'true') this.#bookmark(watcher, { 'k8s.io/initial-events-end': 'true' });
  }

  #spread(event: StoreEvent): void {
    for (const watcher of this.#watchers) if (keyOf(watcher.resource) === event.resource) this.#send(watcher, event);
    this.#waiting.changed();
  }

  /** An object that comes to match, or no longer does, is added or deleted for this watch. */
  #send(watcher: Watcher, { version, object, previous }: StoreEvent): void {
    const isOurs = (candidate: StoredObject | undefined): candidate is StoredObject =>
      candidate !== undefined && isIn(candidate, watcher.namespace) && matches(candidate, watcher.selectors);
    if (isOurs(object)) {
      this.#write(watcher, isOurs(previous) ? 'MODIFIED' : 'ADDED', asVersion(object, watcher.apiVersion));
    } else if (isOurs(previous)) {
      const metadata = { ...previous.metadata, resourceVersion: String(version) };
      this.#write(watcher, 'DELETED', asVersion({ ...previous, metadata }, watcher.apiVersion));
    }
  }

  #bookmark(watcher: Watcher, annotations?: Readonly<Record<string, string>>): void {
    const metadata = { resourceVersion: String(this.store.version), annotations };
    this.#write(watcher, 'BOOKMARK', { apiVersion: watcher.apiVersion, kind: watcher.resource.kind, metadata });
  }

  #write({ response, resource, isMetadataOnly }: Watcher, type: string, object: object): void {
    if (this.faults.stallWatches) return;
    const shown = isMetadataOnly ? metadataOf(object) : object;
    const line = `${JSON.stringify({ type, object: shown })}\n`;
    if (this.faults.cutNextEvent === resource.plural) {
      this.faults.cutNextEvent = undefined;
      // Broken only once the half is on its way: the reader must meet it.
      response.write(line.slice(0, line.length / 2), () => response.destroy());
      return;
    }
    response.write(line);
  }

  #create({ resource, namespace, apiVersion }: Target, body: unknown): Answer {
    const object = body as StoredObject;
    const { name } = object.metadata;
    if (this.store.get(keyOf(resource), namespace, name) !== undefined) {
      return status(409, 'AlreadyExists', `${resource.plural} "${name}" already exists`);
    }
    if (resource.isNamespaced && this.store.get('/namespaces', '', namespace) === undefined) {
      return status(404, 'NotFound', `namespaces "${namespace}" not found`);
    }
    const metadata = { ...object.metadata, ...(namespace === '' ? {} : { namespace }) };
    const stored = this.store.put(keyOf(resource), { ...object, kind: resource.kind, apiVersion, metadata });
    return { status: 201, body: stored };
  }

  #update({ resource, namespace, name, apiVersion }: Target, body: unknown): Answer {
    const object = body as StoredObject;
    const found = this.store.get(keyOf(resource), namespace, name);
    if (found === undefined) return notFound(resource, name);
    const claimed = object.metadata.resourceVersion;
    if (claimed !== undefined && claimed !== found.metadata.resourceVersion) {
      return status(409, 'Conflict', 'the object has been modified; please apply your changes to the latest version');
    }
    const stored = this.store.put(keyOf(resource), { ...object, kind: resource.kind, apiVersion });
    return { status: 200, body: stored };
  }

  #patch({ resource, namespace, name, subresource }: Target, body: unknown, contentType = ''): Answer {
    if (contentType !== 'application/merge-patch+json') return status(415, 'UnsupportedMediaType', contentType);
    const found = this.store.get(keyOf(resource), namespace, name);
    if (found === undefined) return notFound(resource, name);
    if (this.faults.conflicts > 0) {
      this.faults.conflicts -= 1;
      return status(409, 'Conflict', 'the object has been modified; please apply your changes to the latest version');
    }
    const patched = mergePatch(found, body) as StoredObject;
    if (patched.metadata.uid !== found.metadata.uid) {
      return status(409, 'Conflict', 'Precondition failed: UID in precondition differs from UID in object meta');
    }
    // Of a patch to the status, what is neither status nor annotations and their like is left aside.
    const { metadata } = patched;
    const kept = subresource === 'status' ? { ...found, metadata, status: patched['status'] } : patched;
    return { status: 200, body: this.store.put(keyOf(resource), kept) };
  }

  #review(body: unknown): Answer {
    const { spec } = body as { spec: { token: string; audiences?: readonly string[] } };
    const known = this.tokens.get(spec.token);
    const audiences = (spec.audiences ?? ['api']).filter(audience => known?.audiences.includes(audience) === true);
    const isGood = known !== undefined && (this.faults.ignoresAudiences || audiences.length > 0);
    const user = { username: known?.username, groups: known?.groups, extra: known?.extra };
    const verdict = isGood
      ? { authenticated: true, user, ...(this.faults.ignoresAudiences ? {} : { audiences }) }
      : { authenticated: false, error: 'token is unknown or for another audience' };
    return { status: 201, body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', status: verdict } };
  }
}

/** @returns a server that listens; the caller closes it */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const server = new ApiServer(options);
  await server.listen();
  return server;
}

interface Target {
  readonly resource: ServedResource;
  readonly namespace: string;
  readonly name: string;
  /** Empty, or `status`. */
  readonly subresource: string;
  readonly apiVersion: string;
}

interface WatchStart extends Omit<Watcher, 'response'> {
  /** Undefined: the version is expired. */
  readonly past: readonly StoreEvent[] | undefined;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly watch?: WatchStart;
}

const keyOf = ({ group, plural }: ServedResource): string => `${group}/${plural}`;

const isIn = (object: StoredObject, namespace: string): boolean =>
  namespace === '' || object.metadata.namespace === namespace;

const asVersion = (object: StoredObject, apiVersion: string): StoredObject => ({ ...object, apiVersion });

/** As RBAC names it. */
const pluralOf = ({ resource, subresource }: Target): string =>
  subresource === '' ? resource.plural : `${resource.plural}/${subresource}`;

function metadataOf(object: object): object {
  const metadata: unknown = 'metadata' in object ? object.metadata : {};
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata };
}

function withoutType(object: StoredObject): object {
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== 'kind' && key !== 'apiVersion'));
}

function status(code: number, reason: string, message: string): Answer {
  return { status: code, body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message } };
}

const notFound = (resource: ServedResource, name: string): Answer =>
  status(404, 'NotFound', `${resource.plural} "${name}" not found`);

function verbOf(method: string, isWatch: boolean, name: string): string {
  if (method === 'POST') return 'create';
  if (method === 'PUT') return 'update';
  if (method === 'PATCH') return 'patch';
  if (name !== '') return 'get';
  return isWatch ? 'watch' : 'list';
}

function sendJson(response: http.ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function readJson(request: http.IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
  return parts.length === 0 ? undefined : (JSON.parse(Buffer.concat(parts).toString('utf8')) as unknown);
}
