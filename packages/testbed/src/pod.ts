// A pod of the bed: a network namespace with an identity, in which programs can be run. Enrolled pods speak through the
// node's ztunnel; the others speak plainly and serve as what lies outside the mesh.
import type { ChildProcess } from 'node:child_process';
import {
  type ApplicationTunnel,
  createWorkload,
  type Ip,
  type Locality,
  type PortMap,
  type Workload,
} from '@ambit/mesh';
import { TestbedError } from './errors.ts';
import { type ExecOptions, NamespaceProcesses } from './processes.ts';
import type { CommandOptions, CommandResult } from './run-command.ts';
import type { Netns, NodeNet, PodNet } from './topology.ts';

export interface PodOptions {
  readonly node: string;
  readonly name: string;
  readonly namespace: string;
  /** Default `default`. */
  readonly serviceAccount?: string;
  /** Default true. */
  readonly enrolled?: boolean;
  /** What services and policies select by; default: the pod's name. */
  readonly app?: string;
  readonly locality?: Locality;
  /** How the pod's application wants inbound connections: through a PROXY header, or at another port. */
  readonly applicationTunnel?: ApplicationTunnel;
  /** The annotation `ambit.io/l7`: whose requests are read, by port of the server. */
  readonly l7?: string;
}

/** What a bed adds to a pod's own facts when it describes the mesh. */
export interface MeshFacts {
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly authorizationPolicies: readonly string[];
  readonly services: ReadonlyMap<string, PortMap>;
}

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export class Pod implements Netns {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly app: string;
  readonly enrolled: boolean;
  readonly l7: string | undefined;
  /** Kubernetes's pod UID, which enrolment goes by. */
  readonly uid: string;
  readonly node: NodeNet;
  readonly ip4: string;
  readonly ip6: string;
  readonly netns: string;
  readonly netnsPath: string;
  readonly net: PodNet;
  readonly #locality: Locality | undefined;
  readonly #applicationTunnel: ApplicationTunnel | undefined;
  readonly #processes: NamespaceProcesses;
  readonly #remove: (pod: Pod) => Promise<void>;

  /** Beds make pods. `remove` is what `delete` calls. */
  constructor(uid: string, options: PodOptions, net: PodNet, remove: (pod: Pod) => Promise<void>) {
    this.uid = uid;
    this.name = options.name;
    this.namespace = options.namespace;
    this.serviceAccount = options.serviceAccount ?? 'default';
    this.app = options.app ?? options.name;
    this.enrolled = options.enrolled ?? true;
    this.l7 = options.l7;
    this.node = net.node;
    this.ip4 = net.ip4;
    this.ip6 = net.ip6;
    this.netns = net.netns;
    this.netnsPath = net.netnsPath;
    this.net = net;
    this.#locality = options.locality;
    this.#applicationTunnel = options.applicationTunnel;
    this.#processes = new NamespaceProcesses(net);
    this.#remove = remove;
  }

  /** Starts a program in the pod; it is ended with the pod. @throws testbed.closed */
  exec(command: string, args: readonly string[] = [], options: ExecOptions = {}): ChildProcess {
    return this.#processes.exec(command, args, options);
  }

  /** Runs a program in the pod to its end; the default bound is 10 s. @throws testbed.timeout, testbed.closed */
  async run(command: string, args: readonly string[] = [], options: CommandOptions = {}): Promise<CommandResult> {
    return this.#processes.run(command, args, options);
  }

  /** Ends the pod: withdrawn from the mesh, its programs ended, its network gone. Deleting twice is fine. */
  async delete(): Promise<void> {
    await this.#remove(this);
  }

  /** For the bed: ends the programs. */
  async endProcesses(): Promise<void> {
    await this.#processes.close();
  }

  /** The pod as the mesh knows it. */
  describe(facts: MeshFacts): Workload {
    return createWorkload({
      uid: `${facts.clusterId}//Pod/${this.namespace}/${this.name}`,
      name: this.name,
      namespace: this.namespace,
      serviceAccount: this.serviceAccount,
      trustDomain: facts.trustDomain,
      clusterId: facts.clusterId,
      // The address plan makes canonical text only.
      workloadIps: [this.ip4 as Ip, this.ip6 as Ip],
      protocol: this.enrolled ? 'HBONE' : 'TCP',
      node: this.node.name,
      workloadName: this.app,
      workloadType: 'deployment',
      canonicalName: this.app,
      canonicalRevision: 'latest',
      authorizationPolicies: facts.authorizationPolicies,
      services: facts.services,
      ...(this.#locality === undefined ? {} : { locality: this.#locality }),
      ...(this.#applicationTunnel === undefined ? {} : { applicationTunnel: this.#applicationTunnel }),
    });
  }
}

/** @throws testbed.argument */
export function checkLabel(what: string, value: string): void {
  if (LABEL.test(value)) return;
  throw new TestbedError('testbed.argument', `bad ${what} ${JSON.stringify(value)}`, {
    next: 'use up to 63 of a-z, 0-9 and -, not at the ends',
  });
}
