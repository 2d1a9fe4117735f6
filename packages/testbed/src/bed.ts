// A mesh on one machine: nodes and pods as namespaces, a node agent per node, and the file that tells ztunnel what there is.
// Wiring and order of operations only; the parts are in their own files. Runs inside a sandbox, one bed at a time.
// A pod's rules are in place before its proxy is told of it, so it never speaks plainly: it fails closed instead.
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DEFAULT_PROBE_SNAT, NftablesBackend, type RedirectPlan } from '@ambit/cni';
import type { Service } from '@ambit/mesh';
import { NetNs, Reactor } from '@ambit/native';
import { BedAgent } from './bed-agent.ts';
import { type BedPolicy, BedState, type ServiceOptions } from './bed-state.ts';
import { ControlProcess, type ControlOptions } from './control-process.ts';
import { TestbedError } from './errors.ts';
import { renderObjects } from './kube-objects.ts';
import { writeMeshFile } from './mesh-file.ts';
import { checkLabel, Pod, type PodOptions } from './pod.ts';
import { NamespaceProcesses } from './processes.ts';
import { insideSandbox, SANDBOX_DIR } from './sandbox.ts';
import { type NodeNet, Topology } from './topology.ts';
import { type ZtunnelOptions, ZtunnelProcess } from './ztunnel-process.ts';

export interface TestbedOptions {
  /** Node names, in the order of their numbers. */
  readonly nodes: readonly string[];
  /** Default `cluster.local`. */
  readonly trustDomain?: string;
  /** Root pair from which ztunnels sign their workloads' certificates. */
  readonly devCa?: { readonly certPath: string; readonly keyPath: string };
  /** Where files and sockets go; default: a new directory in the sandbox's memory. Must exist when given, and stays. */
  readonly workDir?: string;
  /**
   * Who enrols pods: the bed itself (default), or a node agent that the caller runs, listening where each node's
   * `agent.path` says. The bed then neither programs rules nor waits for enrolment.
   */
  readonly enrolment?: 'bed' | 'outside';
  /** Lead pods' DNS queries to their proxies. Default: DNS stays the pod's own. */
  readonly dnsCapture?: boolean;
  /** How long to wait for another bed of the same sandbox to end. Default 120 000. */
  readonly busyTimeoutMs?: number;
}

/** A node of the bed, and what runs on it. */
export interface BedNode extends NodeNet {
  readonly agent: BedAgent;
  /** Programs in the node's own namespace. */
  readonly processes: NamespaceProcesses;
  readonly directory: string;
}

const DEFAULT_TRUST_DOMAIN = 'cluster.local';
const CLUSTER_ID = 'Kubernetes';
const REDIRECT_PLAN: Omit<RedirectPlan, 'dnsCapture'> = {
  bypassInbound: false,
  virtualInterfaces: [],
  ipv6: true,
  probeSnat: DEFAULT_PROBE_SNAT,
};

export class Testbed {
  readonly trustDomain: string;
  readonly workDir: string;
  /** Kubernetes objects: `bed.yaml` is what the bed consists of; tests and people add files. */
  readonly objectsDirectory: string;
  /** What LOCAL_XDS_PATH of every ztunnel without a control plane points to. */
  readonly meshFilePath: string;
  readonly #topology: Topology;
  readonly #nodes: ReadonlyMap<string, BedNode>;
  readonly #devCa: TestbedOptions['devCa'];
  readonly #isEnrolling: boolean;
  readonly #dnsCapture: boolean;
  readonly #state: BedState;
  readonly #ztunnels = new Set<ZtunnelProcess>();
  readonly #controls: ControlProcess[] = [];
  readonly #redirect = new NftablesBackend();
  /** Undoes what `create` did, in reverse. */
  readonly #closers: AsyncDisposableStack;
  #published: Promise<void> = Promise.resolve();
  #isClosed = false;

  private constructor(options: TestbedOptions, parts: Parts, closers: AsyncDisposableStack) {
    this.trustDomain = options.trustDomain ?? DEFAULT_TRUST_DOMAIN;
    this.workDir = parts.workDir;
    this.objectsDirectory = join(parts.workDir, 'objects');
    this.meshFilePath = join(parts.workDir, 'mesh.yaml');
    this.#topology = parts.topology;
    this.#nodes = parts.nodes;
    this.#devCa = options.devCa;
    this.#isEnrolling = options.enrolment !== 'outside';
    this.#dnsCapture = options.dnsCapture === true;
    this.#state = new BedState(this.trustDomain, CLUSTER_ID);
    this.#closers = closers;
  }

  /** @throws testbed.no_sandbox, testbed.busy, testbed.argument, testbed.limit, testbed.command_failed */
  static async create(options: TestbedOptions): Promise<Testbed> {
    if (!insideSandbox()) {
      throw new TestbedError('testbed.no_sandbox', 'a bed needs a sandbox around it', { next: 'use enterSandbox()' });
    }
    await using closers = new AsyncDisposableStack();
    const parts = await makeParts(options, closers);
    const bed = new Testbed(options, parts, closers.move());
    try {
      await bed.#publish();
    } catch (error) {
      await bed.close();
      throw error;
    }
    return bed;
  }

  get nodes(): readonly BedNode[] {
    return [...this.#nodes.values()];
  }

  get pods(): readonly Pod[] {
    return this.#state.pods;
  }

  get services(): readonly Service[] {
    return this.#state.services;
  }

  /** @throws testbed.unknown */
  node(name: string): BedNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new TestbedError('testbed.unknown', `no node ${name} on this bed`);
    return node;
  }

  /**
   * Makes a pod. When a ztunnel runs on the node, an enrolled pod is served by it on return; otherwise its traffic is
   * refused until one is started.
   * @throws testbed.argument, testbed.name_taken, testbed.unknown, testbed.limit, enrol.refused, testbed.timeout
   */
  async addPod(options: PodOptions): Promise<Pod> {
    this.#checkOpen();
    checkLabel('pod name', options.name);
    checkLabel('namespace', options.namespace);
    const node = this.node(options.node);
    const net = await this.#topology.addPod(node, `${options.namespace}.${options.name}`);
    const pod = new Pod(randomUUID(), options, net, async removed => this.removePod(removed));
    this.#state.addPod(pod);
    try {
      await this.#publish();
      if (pod.enrolled && this.#isEnrolling) await this.#enrol(pod, node);
    } catch (error) {
      await this.removePod(pod);
      throw error;
    }
    return pod;
  }

  /** Ends a pod: out of the mesh, then its programs, then its network. Removing twice is fine. */
  async removePod(pod: Pod): Promise<void> {
    if (!this.#state.removePod(pod)) return;
    // As in a cluster: programs end first, and what they still have to say goes through the proxy.
    await pod.endProcesses();
    if (pod.enrolled) await this.node(pod.node.name).agent.remove(pod.uid);
    await this.#publish();
    await this.#topology.removePod(pod.net);
  }

  /** @throws testbed.argument, testbed.name_taken, testbed.limit */
  async addService(options: ServiceOptions): Promise<Service> {
    this.#checkOpen();
    const service = this.#state.addService(options);
    await this.#publish();
    return service;
  }

  async removeService(service: Service): Promise<void> {
    this.#state.removeService(service);
    await this.#publish();
  }

  /** Replaces all policies. @throws testbed.name_taken, testbed.argument */
  async setPolicies(policies: readonly BedPolicy[]): Promise<void> {
    this.#checkOpen();
    this.#state.setPolicies(policies);
    await this.#publish();
  }

  /**
   * Starts a control plane that every node can reach, on the bed's objects unless told otherwise. Ztunnels started after it
   * live on it: they get its address, its root and a token for their node. Policies are objects then: `writeObjects`.
   * @throws testbed.timeout, testbed.command_failed; it has been stopped then
   */
  async startControl(options: ControlOptions): Promise<ControlProcess> {
    this.#checkOpen();
    const control = await ControlProcess.start(options, {
      stateDirectory: options.stateDirectory ?? join(this.workDir, 'control'),
      paths: options.paths ?? [this.objectsDirectory],
    });
    this.#controls.push(control);
    void control.ended.then(() => this.#controls.splice(this.#controls.indexOf(control), 1));
    return control;
  }

  /** Puts a file of objects beside the bed's own, as a whole; an empty text removes it. `name` ends in .yaml. */
  async writeObjects(name: string, text: string): Promise<void> {
    const path = join(this.objectsDirectory, name);
    if (text === '') await rm(path, { force: true });
    else await replaceFile(path, text);
  }

  /**
   * Starts a ztunnel in the node's namespace and waits until it is ready and serves every enrolled pod of the node.
   * @throws testbed.timeout, testbed.command_failed, enrol.refused; it has been stopped then
   */
  async startZtunnel(nodeName: string, options: ZtunnelOptions): Promise<ZtunnelProcess> {
    this.#checkOpen();
    const node = this.node(nodeName);
    const env = { ...process.env, ...(await this.#environment(node)), ...options.env };
    const ztunnel = await ZtunnelProcess.start(node, node.processes, { ...options, env });
    this.#ztunnels.add(ztunnel);
    void ztunnel.ended.then(() => this.#ztunnels.delete(ztunnel));
    if (!this.#isEnrolling) return ztunnel;
    try {
      await node.agent.synced();
      const pods = this.pods.filter(pod => pod.enrolled && pod.node.name === nodeName);
      await Promise.all(pods.map(async pod => node.agent.enrolled(pod.uid)));
    } catch (error) {
      await ztunnel.stop();
      throw error;
    }
    return ztunnel;
  }

  /** Takes everything down in reverse order: pods' programs, proxies, agents, networks, files. Closing twice is fine. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all(this.pods.map(async pod => pod.endProcesses()));
    await Promise.all([...this.#ztunnels].map(async ztunnel => ztunnel.stop()));
    await Promise.all(this.#controls.map(async control => control.stop()));
    await this.#published.catch(() => {}); // whoever asked for that file has been told
    await this.#closers.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #enrol(pod: Pod, node: BedNode): Promise<void> {
    using netns = NetNs.open(pod.netnsPath);
    await this.#redirect.apply(netns, { ...REDIRECT_PLAN, dnsCapture: this.#dnsCapture });
    const { name, namespace, serviceAccount, l7 } = pod;
    const info = { name, namespace, serviceAccount, ...(l7 === undefined ? {} : { l7 }) };
    node.agent.add(pod.uid, info, pod.netnsPath);
    if (node.agent.connections > 0) await node.agent.enrolled(pod.uid);
  }

  /** Writes the mesh file; several changes at once may share a write. */
  async #publish(): Promise<void> {
    const write = async () => {
      await writeMeshFile(this.meshFilePath, this.#state.describe());
      await mkdir(this.objectsDirectory, { recursive: true });
      const text = renderObjects({ nodes: this.nodes, pods: this.pods, services: this.#state.serviceFacts });
      await replaceFile(join(this.objectsDirectory, 'bed.yaml'), text);
    };
    this.#published = this.#published.then(write, write);
    await this.#published;
  }

  async #environment(node: BedNode): Promise<Record<string, string | undefined>> {
    return {
      NODE_NAME: node.name,
      POD_NAME: `ztunnel-${node.name}`,
      POD_NAMESPACE: 'istio-system',
      INSTANCE_IP: node.ip4,
      CLUSTER_ID,
      TRUST_DOMAIN: this.trustDomain,
      INPOD_UDS: node.agent.path,
      ISTIO_META_DNS_CAPTURE: String(this.#dnsCapture),
      ...(await this.#knowledge(node)),
    };
  }

  /** Where a ztunnel learns of the mesh and gets its certificates: from the control plane, or from files. */
  async #knowledge(node: BedNode): Promise<Record<string, string | undefined>> {
    const [control] = this.#controls;
    if (control === undefined) {
      return {
        LOCAL_XDS_PATH: this.meshFilePath,
        XDS_ADDRESS: '',
        AMBIT_DEV_CA_CERT: this.#devCa?.certPath,
        AMBIT_DEV_CA_KEY: this.#devCa?.keyPath,
      };
    }
    const bearer = { node: node.name, namespace: 'istio-system', serviceAccount: 'ztunnel' };
    return control.environmentFor(bearer, join(node.directory, 'token'));
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new TestbedError('testbed.closed', 'the bed was closed');
  }
}

/** Readers see the file before or after, never half of it. */
async function replaceFile(path: string, text: string): Promise<void> {
  // Hidden, so that nobody takes it for an object file meanwhile.
  const beside = join(path, '..', `.${randomUUID()}`);
  await writeFile(beside, text);
  await rename(beside, path);
}

interface Parts {
  readonly workDir: string;
  readonly topology: Topology;
  readonly nodes: ReadonlyMap<string, BedNode>;
}

async function makeParts(options: TestbedOptions, closers: AsyncDisposableStack): Promise<Parts> {
  const topology = await Topology.create(options.nodes, options.busyTimeoutMs);
  closers.defer(async () => topology.close());
  const workDir = options.workDir ?? (await mkdtemp(join(SANDBOX_DIR, 'bed-')));
  if (options.workDir === undefined) closers.defer(async () => rm(workDir, { recursive: true, force: true }));
  const reactor = new Reactor();
  const polling = { isWanted: true };
  const polled = pollWhile(polling, reactor);
  closers.defer(async () => {
    polling.isWanted = false;
    reactor.close();
    await polled;
  });
  const nodes = new Map<string, BedNode>();
  for (const net of topology.nodes.values()) {
    const directory = join(workDir, net.name);
    await mkdir(directory, { recursive: true });
    const agent = new BedAgent(reactor, join(directory, 'ztunnel.sock'), options.enrolment !== 'outside');
    closers.defer(() => agent.close());
    const processes = new NamespaceProcesses(net);
    closers.defer(async () => processes.close());
    nodes.set(net.name, { ...net, agent, processes, directory });
  }
  return { workDir, topology, nodes };
}

/** Runs the agents' handlers. An error that one of them lets through is a bug and ends the process. */
async function pollWhile(polling: { readonly isWanted: boolean }, reactor: Reactor): Promise<void> {
  while (polling.isWanted) await reactor.pollAsync(-1);
}
