// The mesh as a running control plane or ztunnel knows it, over its admin port. Bounded in time and size: the other side may
// be anything. Every failure says what was asked and what to try.
import { MeshState, type Workload } from '@ambit/mesh';
import { addressFromJson, authorizationFromJson, type Json, meshAddress, meshPolicy } from '@ambit/wire/resources';
import { meshFromDump } from './mesh-from-dump.ts';
import type { CertificateRow } from './render/inventory.ts';

/** Cannot reach or understand the other side; commands exit with 3. */
export class AdminError extends Error {
  readonly code: 'cli.unreachable' | 'cli.bad_answer';
  readonly next: string;

  constructor(code: AdminError['code'], message: string, next: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'AdminError';
    this.code = code;
    this.next = next;
  }
}

export interface AdminFlags {
  /** Admin address of the control plane. */
  readonly address?: string;
  /** Admin address of a ztunnel, asked instead. */
  readonly ztunnel?: string;
}

export interface LoadedMesh {
  readonly mesh: MeshState;
  /** Where addresses are looked up. */
  readonly network: string;
  /** What was left out, for people. */
  readonly problems: readonly string[];
}

const DEFAULT_ADDRESS = 'http://127.0.0.1:15014';
const TIMEOUT_MS = 20_000;
const MAX_ANSWER_BYTES = 512 << 20;

/** @throws AdminError */
export async function loadMesh(flags: AdminFlags): Promise<LoadedMesh> {
  if (flags.ztunnel !== undefined) return readDump(flags.ztunnel);
  const base = flags.address ?? DEFAULT_ADDRESS;
  const [addresses, authorizations] = [
    await entriesOf(base, '/debug/addresses'),
    await entriesOf(base, '/debug/authorizations'),
  ];
  const mesh = new MeshState();
  const problems: string[] = [];
  const attempt = <T>(name: string, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      problems.push(`${name} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
      return undefined;
    }
  };
  const owners = addresses.flatMap(
    ({ name, resource }) => attempt(name, () => meshAddress(addressFromJson(resource))) ?? [],
  );
  const policies = authorizations.flatMap(({ name, resource }) => {
    const policy = attempt(name, () => meshPolicy(authorizationFromJson(resource)).policy);
    return policy === undefined ? [] : [{ key: name, policy }];
  });
  const workloads = owners.flatMap(owner => (owner.kind === 'workload' ? [owner.workload] : []));
  mesh.applyBatch({
    upsertWorkloads: workloads,
    upsertServices: owners.flatMap(owner => (owner.kind === 'service' ? [owner.service] : [])),
    upsertPolicies: policies,
  });
  return { mesh, network: usualNetwork(workloads), problems };
}

/** @throws AdminError */
export async function loadCertificates(flags: AdminFlags, now: Date): Promise<readonly CertificateRow[]> {
  if (flags.ztunnel !== undefined) return (await readDump(flags.ztunnel)).certificates;
  const base = flags.address ?? DEFAULT_ADDRESS;
  const answer = await getJson(base, '/debug/certificates');
  if (!Array.isArray(answer)) throw notUnderstood(base, '/debug/certificates');
  return answer.filter(isRecord).map(entry => {
    const field = (key: string): string => (typeof entry[key] === 'string' ? entry[key] : '');
    const notAfter = field('notAfter');
    const isExpired = Date.parse(notAfter) < now.getTime();
    const state = entry['revoked'] === true ? 'revoked' : isExpired ? 'expired' : 'valid';
    const [identity, serial, notBefore, node] = [field('identity'), field('serial'), field('notBefore'), field('node')];
    return { identity, serial, notBefore, notAfter, node, state };
  });
}

async function readDump(base: string) {
  const dumped = meshFromDump(await getJson(base, '/config_dump'));
  if (dumped === undefined) throw notUnderstood(base, '/config_dump');
  return dumped;
}

interface Entry {
  readonly name: string;
  readonly resource: Json;
}

async function entriesOf(base: string, path: string): Promise<readonly Entry[]> {
  const answer = await getJson(base, path);
  if (!Array.isArray(answer) || !answer.every(isEntry)) throw notUnderstood(base, path);
  return answer;
}

/** @throws AdminError */
export async function getJson(base: string, path: string): Promise<unknown> {
  if (!URL.canParse(path, base)) {
    throw new AdminError('cli.unreachable', `"${base}" is no address`, 'write it as http://127.0.0.1:15014');
  }
  const url = new URL(path, base);
  let body: string;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: 'error' });
    if (!response.ok) {
      await response.body?.cancel();
      throw new AdminError(
        'cli.bad_answer',
        `${url.href} answered ${response.status}`,
        'check which program listens there, and its version',
      );
    }
    body = await readBounded(response, url);
  } catch (error) {
    if (error instanceof AdminError) throw error;
    const next = 'is it running, and is its admin port forwarded? name it with --address or --ztunnel';
    throw new AdminError('cli.unreachable', `cannot reach ${url.href}: ${causeOf(error)}`, next, error);
  }
  try {
    return JSON.parse(body);
  } catch (error) {
    throw notUnderstood(base, path, error);
  }
}

async function readBounded(response: Response, url: URL): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  // A fetch body yields bytes; the library types leave that open.
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) {
      const message = `${url.href} answers more than ${MAX_ANSWER_BYTES >> 20} MiB`;
      throw new AdminError('cli.bad_answer', message, 'check which program listens there');
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** `fetch` hides the system error in the cause. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : error.message;
}

/** The network most workloads are in; the first by name of equals. */
function usualNetwork(workloads: readonly Workload[]): string {
  const counts = new Map<string, number>();
  for (const { network } of workloads) counts.set(network, (counts.get(network) ?? 0) + 1);
  const [usual] = [...counts].toSorted(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  return usual?.[0] ?? '';
}

function notUnderstood(base: string, path: string, cause?: unknown): AdminError {
  const next = 'check which program listens there: a control plane for --address, a ztunnel for --ztunnel';
  return new AdminError('cli.bad_answer', `${new URL(path, base).href} is not what was expected`, next, cause);
}

function isEntry(value: unknown): value is Entry {
  return isRecord(value) && typeof value['name'] === 'string' && isRecord(value['resource']);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
