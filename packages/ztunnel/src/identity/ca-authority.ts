// The certificate authority of a real mesh: the control plane's CA over gRPC. A fresh key for each request, made here; it
// never leaves the process. What the CA answers is checked before it is used (ca-response.ts). Loads the gRPC client, so
// import it only where a CA is configured.
import { generateCertificateRequest, NativeError } from '@ambit/native';
import { CaClient, CallError, type GrpcTarget } from '@ambit/wire/grpc';
import { systemClock } from '../clock.ts';
import { ZtunnelError, type ZtunnelErrorCode } from '../errors.ts';
import type { Logger } from '../log.ts';
import { checkCaResponse } from './ca-response.ts';
import type { CertificateAuthority, IssuedCertificate } from './certificate-authority.ts';

export interface CaSettings {
  readonly target: GrpcTarget;
  /** Asked for; the CA may give less. */
  readonly lifetimeMs: number;
  /** Shared mode: the node's own account asks on behalf of its pods. */
  readonly impersonate: boolean;
  /** For one call, 10 000. */
  readonly callTimeoutMs?: number;
}

export interface CaDeps {
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
  readonly log?: Logger;
}

export function createCaAuthority(settings: CaSettings, deps: CaDeps = {}): CertificateAuthority {
  return new CaAuthority(settings, deps);
}

class CaAuthority implements CertificateAuthority {
  readonly #settings: CaSettings;
  readonly #deps: CaDeps;
  readonly #client: CaClient;

  constructor(settings: CaSettings, deps: CaDeps) {
    this.#settings = settings;
    this.#deps = deps;
    const { callTimeoutMs: timeoutMs } = settings;
    this.#client = new CaClient(settings.target, timeoutMs === undefined ? {} : { timeoutMs });
  }

  async issue(identity: string, signal?: AbortSignal): Promise<IssuedCertificate> {
    const { csrPem, privateKeyPem } = makeRequest(identity);
    const { impersonate, lifetimeMs } = this.#settings;
    const chain = await this.#ask({
      csrPem,
      validitySeconds: lifetimeMs / 1000,
      impersonate: impersonate ? identity : undefined,
      signal,
    });
    const nowMs = this.#deps.now?.() ?? systemClock.now();
    const { certificate, skippedRoots } = checkCaResponse({ chain, identity, privateKeyPem, nowMs });
    if (skippedRoots > 0) this.#deps.log?.warn(`found ${skippedRoots} invalid root certs`, [['identity', identity]]);
    return certificate;
  }

  close(): void {
    this.#client.close();
  }

  async #ask(question: Parameters<CaClient['request']>[0]): Promise<readonly string[]> {
    try {
      return await this.#client.request(question);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      throw new ZtunnelError(codeFor(error), messageFor(error), { cause: error });
    }
  }
}

function makeRequest(identity: string): { readonly csrPem: string; readonly privateKeyPem: string } {
  try {
    return generateCertificateRequest(identity);
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause;
    throw new ZtunnelError('identity.unavailable', `failed to create CSR: ${cause.message}`, { cause });
  }
}

function codeFor({ code, status }: CallError): ZtunnelErrorCode {
  switch (code) {
    case 'grpc.untrusted':
    case 'xds.no_roots':
      return 'ca.untrusted_server';
    case 'grpc.credentials':
      return 'ca.credentials';
    case 'grpc.deadline':
      return 'ca.timeout';
    case 'grpc.protocol':
    case 'grpc.too_long':
      return 'ca.bad_response';
    case 'grpc.status':
      if (status === 'UNAUTHENTICATED' || status === 'PERMISSION_DENIED') return 'ca.denied';
      return status === 'UNAVAILABLE' ? 'ca.unreachable' : 'ca.refused';
    case 'grpc.connect':
    case 'grpc.plaintext':
    case 'grpc.lost':
    case 'grpc.cancelled':
      return 'ca.unreachable';
  }
}

/** The wording that upstream's users know, where the server answered. */
function messageFor({ code, status, message }: CallError): string {
  return code === 'grpc.status' ? `signing gRPC error (${status}): ${message}` : `certificate authority: ${message}`;
}
