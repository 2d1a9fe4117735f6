// Material in a Kubernetes Secret, under the keys of upstream's `istio-ca-secret`: `ca-cert.pem` is the signing root, and
// `ca-key.pem` begins with its key and then has the rest that only we read. Several control planes agree by the Secret's
// version: of two that write at once, one is told to load again.
import { decodeMaterial, encodeMaterial, isSameMaterial, type Material, type MaterialStore } from './material.ts';

export interface SecretContents {
  readonly data: Readonly<Record<string, Uint8Array>>;
  /** Opaque; names this state of the Secret. */
  readonly resourceVersion: string;
}

/** One Secret with optimistic concurrency; the Kubernetes source's store is one. */
export interface SharedSecret {
  readonly name: string;
  get(): Promise<SecretContents | undefined>;
  /** Only where there is none. */
  create(data: SecretContents['data']): Promise<{ readonly kind: 'saved' | 'conflict' }>;
  /** Only while the Secret is as `previous` says. */
  update(data: SecretContents['data'], previous: SecretContents): Promise<{ readonly kind: 'saved' | 'conflict' }>;
}

export class SecretMaterialStore implements MaterialStore {
  readonly name: string;
  readonly #secrets: SharedSecret;

  constructor(secrets: SharedSecret) {
    this.name = secrets.name;
    this.#secrets = secrets;
  }

  async load(): Promise<Material | undefined> {
    const contents = await this.#secrets.get();
    return contents === undefined ? undefined : this.#read(contents);
  }

  async save(material: Material, previous: Material | undefined): Promise<boolean> {
    const data = {
      'ca-cert.pem': Buffer.from(material.root.certPem),
      'ca-key.pem': Buffer.from(encodeMaterial(material)),
    };
    if (previous === undefined) return (await this.#secrets.create(data)).kind === 'saved';
    const contents = await this.#secrets.get();
    if (contents === undefined || !isSameMaterial(this.#read(contents), previous)) return false;
    return (await this.#secrets.update(data, contents)).kind === 'saved';
  }

  #read({ data }: SecretContents): Material {
    const text = (key: string): string => Buffer.from(data[key] ?? []).toString('utf8');
    const key = text('ca-key.pem');
    // A Secret that istiod made has the key alone, with its certificate in the other entry.
    return decodeMaterial(key.includes('-----BEGIN CERTIFICATE-----') ? key : key + text('ca-cert.pem'), this.name);
  }
}
