// A self-signed authority's material in a Secret, where istiod keeps its own: `ca-cert.pem` and `ca-key.pem` hold the
// root that signs, so that either control plane can take over from the other; `ambit-ca.pem` holds all of it, with where
// a change of roots stands. Where both are there and disagree, somebody else has changed the root: theirs is taken.
import { createPrivateKey } from 'node:crypto';
import { decodeMaterial, encodeMaterial, type Material, type MaterialStore } from '../ca/material.ts';
import { ControlError } from '../errors.ts';
import type { SecretContents, SecretStore } from './secret-store.ts';

const CERT = 'ca-cert.pem';
const KEY = 'ca-key.pem';
const WHOLE = 'ambit-ca.pem';

export function createSecretMaterialStore(store: SecretStore): MaterialStore {
  return {
    name: store.name,
    async load() {
      const contents = await store.get();
      return contents === undefined ? undefined : read(contents, store.name);
    },
    async save(material, previous) {
      const { certPem, keyPem } = material.root;
      const texts = { [CERT]: certPem, [KEY]: keyPem, [WHOLE]: encodeMaterial(material) };
      const data = Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, Buffer.from(text)]));
      const current = await store.get();
      if (current === undefined) {
        return previous === undefined && (await store.create(data)).kind === 'saved';
      }
      const present = read(current, store.name);
      if (!isSame(present, previous)) return false;
      return (await store.update(data, current)).kind === 'saved';
    },
  };
}

function read({ data }: SecretContents, from: string): Material | undefined {
  const cert = textOf(data[CERT]);
  const key = textOf(data[KEY]);
  const whole = textOf(data[WHOLE]);
  if (cert === '' && key === '' && whole === '') return undefined;
  if (whole !== '') {
    const material = decodeMaterial(whole, from);
    if (cert === '' || material.root.certPem.trim() === cert.trim()) return material;
  }
  return decodeMaterial(`${pkcs8(key, from)}${cert.trim()}\n`, from);
}

/** istiod writes `RSA PRIVATE KEY` (PKCS#1). */
function pkcs8(pem: string, from: string): string {
  try {
    return createPrivateKey(pem).export({ type: 'pkcs8', format: 'pem' }).toString();
  } catch {
    // The cause could quote the key.
    throw new ControlError('ca.bad_material', `${from}: ${KEY} is no private key`);
  }
}

function isSame(a: Material | undefined, b: Material | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return encodeMaterial(a) === encodeMaterial(b);
}

function textOf(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? '' : Buffer.from(bytes).toString('utf8');
}
