// Development certificate authority: until a CA client exists, workload certificates are signed with the root pair on
// disk that AMBIT_DEV_CA_CERT and AMBIT_DEV_CA_KEY name. Never used unless asked for. Whoever can read that key can be
// any workload, which is why this is for development only.
import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { HelperProcess } from '../helper/helper-process.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';
import type { DevLeaf } from './dev-root.ts';

export interface SignRequest {
  readonly identity: string;
  readonly publicKeySpki: Uint8Array;
  readonly lifetimeMs: number;
  readonly certPath: string;
  readonly keyPath: string;
}

export type SignResult = DevLeaf & { readonly rootsPem: string };

export interface DevCaOptions {
  readonly certPath: string;
  readonly keyPath: string;
  readonly lifetimeMs: number;
}

const SIGN_DEADLINE_MS = 10_000;
/** Pods of a node tend to enrol together: one process signs for all of them. */
const IDLE_MS = 2000;

export class DevCa implements CertificateAuthority {
  readonly #options: DevCaOptions;
  readonly #signer = new HelperProcess({
    entry: new URL('./dev-signer-process.ts', import.meta.url),
    idleMs: IDLE_MS,
    deadlineMs: SIGN_DEADLINE_MS,
    failureCode: 'identity.unavailable',
  });

  constructor(options: DevCaOptions) {
    this.#options = options;
  }

  async issue(identity: string): Promise<IssuedCertificate> {
    const { privateKey, publicKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'prime256v1' });
    const publicKeySpki = publicKey.export({ type: 'spki', format: 'der' });
    const request: SignRequest = { identity, publicKeySpki, ...this.#options };
    // The child is our own program and answers with a SignResult.
    const result = (await this.#signer.request(request)) as SignResult;
    return {
      material: {
        identity,
        certChainPem: result.certPem,
        privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
        rootsPem: result.rootsPem,
      },
      notBeforeMs: result.notBeforeMs,
      notAfterMs: result.notAfterMs,
    };
  }

  close(): void {
    this.#signer.close();
  }
}
