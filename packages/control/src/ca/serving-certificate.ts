// The certificate that the control plane itself shows on its TLS port: by the authority that it runs, for DNS names and
// addresses, with a key that never leaves memory; a new one at half of its life and whenever signer or roots change.
import { hostname } from 'node:os';
import { ipToBytes, parseIp } from '@ambit/mesh';
import type { Name } from './x509-writer.ts';

export interface ServingMaterial {
  /** PEM: the leaf, then intermediates. */
  readonly certChainPem: string;
  /** PKCS#8 PEM. */
  readonly privateKeyPem: string;
  /** PEM of the roots that clients' certificates are checked against. */
  readonly rootsPem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export const SERVING_LIFETIME_MS: number = 86_400_000;

/** No part can match in two ways, so a long name that is none is told in one pass. */
const DNS_NAME = /^(?=.{1,253}$)(?:\*\.)?[a-z0-9][a-z0-9_-]{0,62}(?:\.[a-z0-9_-]{1,63})*\.?$/i;

/** What node proxies call the control plane by default, with this machine's own name. */
export function defaultServingNames(rootNamespace: string): readonly string[] {
  return [
    `istiod.${rootNamespace}.svc`,
    `istiod.${rootNamespace}.svc.cluster.local`,
    `istiod.${rootNamespace}`,
    'istiod',
    'localhost',
    '127.0.0.1',
    '::1',
    hostname().toLowerCase(),
  ];
}

/** Names and addresses as a certificate has them, each once; what is neither is left out and returned in `bad`. */
export function toServingNames(texts: readonly string[]): {
  readonly names: readonly Name[];
  readonly bad: readonly string[];
} {
  const names: Name[] = [];
  const bad: string[] = [];
  for (const text of new Set(texts)) {
    const ip = parseIp(text);
    if (ip !== undefined) names.push({ kind: 'ip', bytes: ipToBytes(ip) });
    else if (DNS_NAME.test(text)) names.push({ kind: 'dns', text });
    else bad.push(text);
  }
  return { names, bad };
}
