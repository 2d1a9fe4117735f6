// xDS updates -> the mesh. An update is decoded in slices that let the event loop breathe and then applied in one call, so
// nobody sees half of it. What does not decode is left out and reported; the version before it stays in force. Fails closed:
// a policy that a workload names and that did not decode leaves that workload unreachable (`policy.unknown`).
import {
  type AddressOwner,
  formatSpiffeId,
  type KeyedPolicy,
  type MeshState,
  type Service,
  type Workload,
} from '@ambit/mesh';
import type { DeltaResource, DeltaUpdate, RejectedResource } from '@ambit/wire/grpc';
import { ADDRESS_TYPE_URL, decodeAddress, decodeAuthorization } from '@ambit/wire/resources';
import { errorText } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { MeshChange } from '../supervisor.ts';

/** Keeps certificates at hand for workloads of this node before their pods ask. See CertificateManager. */
export interface Prefetcher {
  prefetch(identity: string): void;
  forgetPrefetched(identity: string): void;
}

export interface MeshApplierDeps {
  readonly state: MeshState;
  readonly prefetcher: Prefetcher;
  /** After each update, also one that changed nothing. */
  readonly onChange: (change: MeshChange) => void;
  readonly log: Logger;
}

export interface MeshApplierOptions {
  /** Workloads of this node have their certificates fetched early; undefined: none. */
  readonly localNode: string | undefined;
}

/** How long decoding may keep the event loop. */
const SLICE_MS = 8;
/** How often the time is looked at. */
const CHECK_EVERY = 64;
/** Refused resources of one update that are logged one by one. */
const MAX_LOGGED = 10;

export class MeshApplier {
  readonly #deps: MeshApplierDeps;
  readonly #localNode: string | undefined;
  /** Uid to identity of the workloads whose certificates are held. */
  readonly #held = new Map<string, string>();
  readonly #holders = new Map<string, number>();
  #tail: Promise<unknown> = Promise.resolve();

  constructor(deps: MeshApplierDeps, options: MeshApplierOptions) {
    this.#deps = deps;
    this.#localNode = options.localNode;
  }

  /** Applies updates one after the other. Resolves with what was left out. */
  apply(update: DeltaUpdate): Promise<readonly RejectedResource[]> {
    const turn = this.#tail.then(async () =>
      update.typeUrl === ADDRESS_TYPE_URL ? await this.#addresses(update) : await this.#policies(update),
    );
    this.#tail = turn;
    return turn;
  }

  async #addresses(update: DeltaUpdate): Promise<readonly RejectedResource[]> {
    const upsertWorkloads: Workload[] = [];
    const upsertServices: Service[] = [];
    const rejected = await this.#decode(update, ({ value }) => {
      const owner: AddressOwner = decodeAddress(value);
      if (owner.kind === 'workload') upsertWorkloads.push(owner.workload);
      else upsertServices.push(owner.service);
    });
    const { unknown } = this.#deps.state.applyBatch({
      upsertWorkloads,
      upsertServices,
      removeAddresses: update.removed,
    });
    for (const workload of upsertWorkloads) this.#hold(workload.uid, this.#identityToHold(workload));
    for (const name of update.removed) this.#hold(name, undefined);
    const isChanged = upsertWorkloads.length + upsertServices.length > 0 || unknown.length < update.removed.length;
    this.#deps.onChange({ addresses: isChanged, policies: false });
    return rejected;
  }

  async #policies(update: DeltaUpdate): Promise<readonly RejectedResource[]> {
    const upsertPolicies: KeyedPolicy[] = [];
    const rejected = await this.#decode(update, ({ name, value }) => {
      const { policy, dropped } = decodeAuthorization(value);
      upsertPolicies.push({ key: name, policy });
      for (const { field, text } of dropped.slice(0, MAX_LOGGED)) {
        this.#deps.log.warn('A value of a policy makes no sense and lets nothing through', [
          ['policy', name],
          ['field', field],
          ['found', text],
          ['err.code', 'policy.invalid_value'],
        ]);
      }
    });
    const { policiesChanged } = this.#deps.state.applyBatch({ upsertPolicies, removePolicies: update.removed });
    for (const { key } of upsertPolicies) this.#deps.log.info(`handling RBAC update ${key}`);
    for (const name of update.removed) this.#deps.log.info(`handling RBAC delete ${name}`);
    this.#deps.onChange({ addresses: false, policies: policiesChanged });
    return rejected;
  }

  async #decode(update: DeltaUpdate, take: (resource: DeltaResource) => void): Promise<readonly RejectedResource[]> {
    const rejected: RejectedResource[] = [];
    let sliceEnd = performance.now() + SLICE_MS;
    for (const [index, resource] of update.resources.entries()) {
      if (index % CHECK_EVERY === CHECK_EVERY - 1 && performance.now() > sliceEnd) {
        await new Promise<void>(resolve => setImmediate(resolve));
        sliceEnd = performance.now() + SLICE_MS;
      }
      try {
        // An absent value would decode as an empty message, and an empty policy is one that denies everything.
        if (resource.typeUrl !== update.typeUrl)
          throw new Error(`its value is of type ${JSON.stringify(resource.typeUrl.slice(0, 100))}`);
        take(resource);
      } catch (error) {
        rejected.push({ name: resource.name, reason: errorText(error) });
      }
    }
    for (const { name, reason } of rejected.slice(0, MAX_LOGGED)) {
      this.#deps.log.error('A resource of the control plane cannot be used and is left out', [
        ['resource', name],
        ['error', reason],
        ['err.code', 'xds.bad_resource'],
      ]);
    }
    return rejected;
  }

  #identityToHold(workload: Workload): string | undefined {
    if (this.#localNode === undefined || workload.node !== this.#localNode) return undefined;
    return workload.protocol === 'HBONE' || workload.nativeTunnel ? formatSpiffeId(workload) : undefined;
  }

  #hold(uid: string, identity: string | undefined): void {
    const former = this.#held.get(uid);
    if (former === identity) return;
    if (identity === undefined) this.#held.delete(uid);
    else this.#held.set(uid, identity);
    // The new one first: an identity that only changes hands is never let go of.
    if (identity !== undefined) this.#count(identity, 1);
    if (former !== undefined) this.#count(former, -1);
  }

  #count(identity: string, by: 1 | -1): void {
    const holders = (this.#holders.get(identity) ?? 0) + by;
    if (holders === 0) {
      this.#holders.delete(identity);
      this.#deps.prefetcher.forgetPrefetched(identity);
      return;
    }
    this.#holders.set(identity, holders);
    if (by === 1 && holders === 1) this.#deps.prefetcher.prefetch(identity);
  }
}
