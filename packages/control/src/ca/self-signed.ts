// A root of our own: made at first start, kept in a store that several control planes may share, and replaced in good time.
// A change of roots takes two overlaps, in each of which certificates of both roots verify everywhere: first everybody
// learns the new root, then it signs, and when all certificates of the old one have expired it is forgotten.
import { generateKeyPair, X509Certificate } from 'node:crypto';
import { promisify } from 'node:util';
import type { Diagnostic } from '../diagnostic.ts';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';
import { isSameMaterial, type Material, type MaterialStore, type RootPair, trustBundle } from './material.ts';
import { makeRoot, openSigner, ROOT_LIFETIME_MS, type Signer } from './signer.ts';
import type { SigningSource, SigningState } from './signing-source.ts';

export interface SelfSignedOptions {
  readonly store: MaterialStore;
  readonly trustDomain: string;
  /** How long each of the two overlaps of a change of roots lasts: at least the longest life of a certificate. */
  readonly overlapMs: number;
  /** Of a root. Default ten years. */
  readonly rootLifetimeMs?: number;
  readonly now: () => number;
}

/** The part of a root's life that is left when its successor is announced. */
const RENEW_AT = 0.2;
/** Each lost race means that another control plane moved on. */
const MAX_RACES = 10;

export class SelfSigned implements SigningSource {
  readonly name: string;
  readonly #options: SelfSignedOptions;
  #material: Material | undefined;
  #state: SigningState | undefined;
  #problems: readonly Diagnostic[] = [];

  constructor(options: SelfSignedOptions) {
    this.name = options.store.name;
    this.#options = options;
  }

  get state(): SigningState | undefined {
    return this.#state;
  }

  get problems(): readonly Diagnostic[] {
    return this.#problems;
  }

  get dueAtMs(): number | undefined {
    return this.#material === undefined ? undefined : this.#stepAtMs(this.#material);
  }

  async start(): Promise<void> {
    await this.#settle(material => this.#due(material));
  }

  async refresh(): Promise<boolean> {
    const before = this.#material;
    try {
      await this.#settle(material => this.#due(material));
      this.#problems = [];
    } catch (error) {
      this.#problems = [
        {
          code: error instanceof ControlError ? error.code : 'ca.store',
          severity: 'error',
          message: `cannot read or advance the root in ${this.name}: ${errorText(error)}`,
          remedy: (error instanceof ControlError ? error.next : undefined) ?? 'the root in use stays; see to the store',
        },
      ];
    }
    return !isSameMaterial(before, this.#material);
  }

  async rotate(): Promise<void> {
    await this.#settle(async material => {
      if (material === undefined || material.rotation.kind === 'steady') return this.#announce(material);
      throw new ControlError('ca.rotation', `a change of roots is under way (${material.rotation.kind})`, {
        next: 'wait until it has ended; ambit ca list shows where it stands',
      });
    });
  }

  watch(): () => void {
    return () => undefined;
  }

  /** Loads, takes the step, stores; again from the start whenever another control plane was faster. */
  async #settle(step: (material: Material | undefined) => Promise<Material>): Promise<void> {
    const { store } = this.#options;
    for (let race = 0; race < MAX_RACES; race += 1) {
      const stored = await store.load();
      const next = await step(stored);
      // Opened before it is stored: nothing gets there that could not be used again.
      const state = this.#open(next);
      if (isSameMaterial(stored, next) || (await store.save(next, stored))) {
        this.#material = next;
        this.#state = state;
        return;
      }
    }
    throw new ControlError('ca.store', `${store.name} changed under us ${MAX_RACES} times in a row`);
  }

  /** The material as it should be now: the same, or one step on. */
  async #due(material: Material | undefined): Promise<Material> {
    if (material === undefined) return { root: await this.#newRoot(), rotation: { kind: 'steady' } };
    const { root, rotation } = material;
    const now = this.#options.now();
    if (now < this.#stepAtMs(material)) return material;
    switch (rotation.kind) {
      case 'steady':
        return this.#announce(material);
      case 'announced':
        return { root: rotation.next, rotation: { kind: 'switched', previous: root, sinceMs: now } };
      case 'switched':
        return { root, rotation: { kind: 'steady' } };
    }
  }

  /** When the material is to go one step on. */
  #stepAtMs({ root, rotation }: Material): number {
    const { overlapMs } = this.#options;
    const { fromMs, endMs } = lifeOf(root);
    switch (rotation.kind) {
      case 'steady':
        return endMs - (endMs - fromMs) * RENEW_AT;
      case 'announced':
        // Announced late, the old root must not sign until its very end: certificates would become ever shorter.
        return Math.min(rotation.sinceMs + overlapMs, rotation.sinceMs + (endMs - rotation.sinceMs) / 2);
      case 'switched':
        return rotation.sinceMs + overlapMs;
    }
  }

  async #announce(material: Material | undefined): Promise<Material> {
    const next = await this.#newRoot();
    if (material === undefined) return { root: next, rotation: { kind: 'steady' } };
    return { root: material.root, rotation: { kind: 'announced', next, sinceMs: this.#options.now() } };
  }

  async #newRoot(): Promise<RootPair> {
    const keys = await promisify(generateKeyPair)('ec', { namedCurve: 'prime256v1' });
    const { trustDomain, now, rootLifetimeMs = ROOT_LIFETIME_MS } = this.#options;
    return makeRoot(trustDomain, now(), keys, rootLifetimeMs);
  }

  #open(material: Material): SigningState {
    const { root, rotation } = material;
    const signer = this.#openPair(root, 'the root');
    const signers = [signer];
    if (rotation.kind === 'announced') signers.push(this.#openPair(rotation.next, 'the next root'));
    if (rotation.kind === 'switched') {
      // It only signs lists now, and its certificates expired with it.
      const previous = this.#tryOpen(rotation.previous);
      if (previous !== undefined) signers.push(previous);
    }
    return { signer, signers, rootsPem: trustBundle(material), foreignCrlPem: '', phase: rotation.kind };
  }

  #tryOpen(pair: RootPair): Signer | undefined {
    try {
      return this.#openPair(pair, 'the previous root');
    } catch {
      return undefined;
    }
  }

  #openPair({ certPem, keyPem }: RootPair, what: string): Signer {
    const from = `${what} in ${this.name}`;
    return openSigner(
      { certPem, keyPem, chainPem: '', rootsPem: certPem },
      { cert: from, key: from, chain: from, roots: from },
      this.#options.now(),
    );
  }
}

/** Without the checks of a signer: a root that has just expired must still give way to the one that was announced. */
function lifeOf({ certPem }: RootPair): { readonly fromMs: number; readonly endMs: number } {
  const certificate = new X509Certificate(certPem);
  return { fromMs: certificate.validFromDate.getTime(), endMs: certificate.validToDate.getTime() };
}
