// The public surface of @ambit/ztunnel. Light on purpose: the development root's signer and the file reader load their
// large libraries when first called.
import type { DevRoot } from './identity/dev-root.ts';

export { type Config, type Environment, parseConfig } from './config.ts';
export { ZtunnelError, type ZtunnelErrorCode } from './errors.ts';
export type { DevRoot } from './identity/dev-root.ts';
export type { LocalMesh } from './local-config/reader.ts';
export { type RunOptions, runZtunnel } from './main.ts';

/** A new self-signed root for AMBIT_DEV_CA_CERT and AMBIT_DEV_CA_KEY; `days` is 365 unless told. */
export async function generateDevRoot(
  options: { readonly name?: string; readonly days?: number } = {},
): Promise<DevRoot> {
  const { generateDevRoot: generate } = await import('./identity/dev-root.ts');
  return generate(options);
}
