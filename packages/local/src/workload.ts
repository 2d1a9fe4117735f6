// A workload of this machine: what whoever starts it asks for, and what the registry keeps. Requests come from other
// processes and are checked here, once. Pure.
import { isIP } from 'node:net';
import { LocalError } from './errors.ts';
import type { ProcessIdentity } from './process-identity.ts';

/** TCP from an address of the host to a port of the workload. */
export interface PublishedPort {
  readonly ip: string;
  readonly hostPort: number;
  readonly port: number;
}

/** A virtual address and port that lead to every workload which names them. */
export interface ServicePort {
  readonly name: string;
  readonly port: number;
  readonly targetPort: number;
}

export interface WorkloadRequest {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly isMember: boolean;
  readonly version: string | undefined;
  readonly publish: readonly PublishedPort[];
  /** Who listens there: a mesh without root is not on the host's network, and the runner brings the ports with it. */
  readonly publisher: 'agent' | 'runner';
  readonly services: readonly ServicePort[];
  readonly command: readonly string[];
  /** The workload's first process, which waits in a network namespace of its own. */
  readonly pid: number;
  /** Who started it and ends with it. */
  readonly runnerPid: number;
  /** Where its output goes; undefined: to the terminal it was started from. */
  readonly logPath: string | undefined;
}

export interface Workload extends Omit<WorkloadRequest, 'pid' | 'runnerPid'> {
  readonly uid: string;
  readonly process: ProcessIdentity;
  readonly runner: ProcessIdentity;
  /** `net:[inode]`. */
  readonly netnsName: string;
  /** Which address of the plan it has. */
  readonly number: number;
  readonly ip4: string;
  /** undefined: this mesh is without IPv6. */
  readonly ip6: string | undefined;
  readonly hostInterface: string;
  /** RFC 3339. */
  readonly createdAt: string;
}

const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const VERSION = /^[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?$/;
const MAX_PORTS = 64;
const MAX_WORDS = 4096;

/** `shop/cart`. */
export function workloadKey({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

/** @throws local.argument naming the field */
export function readWorkloadRequest(json: unknown): WorkloadRequest {
  const { pid, runnerPid, ...rest } = fieldsOf(json, 'a workload');
  return { ...readCommon(rest), pid: readPid(pid, 'pid'), runnerPid: readPid(runnerPid, 'runnerPid') };
}

/** A file of the registry. @throws local.argument */
export function readWorkload(json: unknown): Workload {
  const fields = fieldsOf(json, 'a workload');
  return {
    ...readCommon(fields),
    uid: readText(fields['uid'], 'uid', /^[\w-]{1,253}$/),
    process: readProcess(fields['process'], 'process'),
    runner: readProcess(fields['runner'], 'runner'),
    netnsName: readText(fields['netnsName'], 'netnsName', /^net:\[\d+\]$/),
    number: readInteger(fields['number'], 'number', 1, 0xffff),
    ip4: readIp(fields['ip4'], 'ip4'),
    ip6: fields['ip6'] === undefined ? undefined : readIp(fields['ip6'], 'ip6'),
    hostInterface: readText(fields['hostInterface'], 'hostInterface', /^[a-z0-9]{1,15}$/),
    createdAt: readText(fields['createdAt'], 'createdAt', /^[\dTZ:.-]{1,30}$/),
  };
}

/** `[IP:]HOST:PORT`, or `PORT` for the same on both sides; loopback unless an address is named. @throws local.argument */
export function parsePublish(text: string): PublishedPort {
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|(\d+\.\d+\.\d+\.\d+)):)?(?:(\d{1,5}):)?(\d{1,5})$/.exec(text);
  const ip = match?.[1] ?? match?.[2] ?? '127.0.0.1';
  const port = Number(match?.[4]);
  const hostPort = match?.[3] === undefined ? port : Number(match[3]);
  if (match === null || isIP(ip) === 0 || !isPort(port) || !isPort(hostPort)) {
    throw argument(`--publish ${text} is not [IP:]HOSTPORT:PORT`, 'for example --publish 8080:80');
  }
  return { ip, hostPort, port };
}

/** `NAME:PORT[:TARGET]`. @throws local.argument */
export function parseService(text: string): ServicePort {
  const [name = '', port = '', target = port, ...more] = text.split(':');
  if (!LABEL.test(name) || more.length > 0 || !isPort(Number(port)) || !isPort(Number(target))) {
    throw argument(`--service ${text} is not NAME:PORT or NAME:PORT:TARGET`, 'for example --service cart:80:8080');
  }
  return { name, port: Number(port), targetPort: Number(target) };
}

/** Names that become names of files, identities and in DNS. @throws local.argument */
export function checkNames(fields: Readonly<Record<string, unknown>>) {
  return {
    name: readText(fields['name'], 'name', LABEL),
    namespace: readText(fields['namespace'], 'namespace', LABEL),
    serviceAccount: readText(fields['serviceAccount'], 'service account', LABEL),
  };
}

function readCommon(fields: Record<string, unknown>) {
  const { isMember, version, publish, publisher, services, command, logPath } = fields;
  return {
    ...checkNames(fields),
    isMember: isMember === true,
    version: version === undefined ? undefined : readText(version, 'version', VERSION),
    publish: readList(publish, 'publish', MAX_PORTS).map(readPublished),
    publisher: publisher === 'runner' ? ('runner' as const) : ('agent' as const),
    services: readList(services, 'services', MAX_PORTS).map(readService),
    command: readList(command, 'command', MAX_WORDS).map(word => readText(word, 'command', /^/)),
    logPath: logPath === undefined ? undefined : readText(logPath, 'logPath', /^\/.{1,4000}$/),
  };
}

function readPublished(json: unknown): PublishedPort {
  const { ip, hostPort, port } = fieldsOf(json, 'publish');
  return {
    ip: readIp(ip, 'publish'),
    hostPort: readInteger(hostPort, 'publish', 1, 0xffff),
    port: readInteger(port, 'publish', 1, 0xffff),
  };
}

function readService(json: unknown): ServicePort {
  const { name, port, targetPort } = fieldsOf(json, 'service');
  return {
    name: readText(name, 'service', LABEL),
    port: readInteger(port, 'service', 1, 0xffff),
    targetPort: readInteger(targetPort, 'service', 1, 0xffff),
  };
}

function readProcess(json: unknown, field: string): ProcessIdentity {
  const { pid, startTicks } = fieldsOf(json, field);
  return { pid: readPid(pid, field), startTicks: readInteger(startTicks, field, 0, Number.MAX_SAFE_INTEGER) };
}

function readPid(value: unknown, field: string): number {
  return readInteger(value, field, 1, 0x7fffffff);
}

function readIp(value: unknown, field: string): string {
  const text = readText(value, field, /^[0-9a-fA-F:.]{2,45}$/);
  if (isIP(text) === 0) throw argument(`${field} ${JSON.stringify(text)} is no address`);
  return text;
}

function readInteger(value: unknown, field: string, min: number, max: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw argument(`${field} ${JSON.stringify(value) ?? 'is missing:'} must be a number from ${min} to ${max}`);
}

function readText(value: unknown, field: string, pattern: RegExp): string {
  if (typeof value === 'string' && pattern.test(value)) return value;
  const shown = value === undefined ? 'is missing' : `${JSON.stringify(value).slice(0, 100)} cannot be used`;
  const isLabel = pattern === LABEL;
  throw argument(`${field} ${shown}`, isLabel ? 'use up to 63 of a-z, 0-9 and -, not at the ends' : undefined);
}

function readList(value: unknown, field: string, max: number): readonly unknown[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.length <= max) return value;
  throw argument(`${field} must be a list of at most ${max}`);
}

function fieldsOf(json: unknown, what: string): Record<string, unknown> {
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return { ...json };
  throw argument(`${what} must be an object`);
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= 0xffff;
}

function argument(message: string, next?: string): LocalError {
  return new LocalError('local.argument', message, { next });
}
