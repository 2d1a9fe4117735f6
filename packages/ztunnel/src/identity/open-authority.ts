// Which certificate authority the configuration asks for: the development authority, a remote one, or none.
import type { Config } from '../config.ts';
import { ZtunnelError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { DevCa } from './dev-ca.ts';

export const NO_AUTHORITY =
  'no certificate authority is configured: set AMBIT_DEV_CA_CERT and AMBIT_DEV_CA_KEY, or CA_ADDRESS';

/** Without an authority every identity is unavailable: nothing is ever sent in plain text instead. */
export async function openAuthority(config: Config, log: Logger): Promise<CertificateAuthority> {
  const { devCa, ca, proxyMode, secretTtlMs } = config;
  if (devCa !== undefined) return new DevCa({ ...devCa, lifetimeMs: secretTtlMs });
  if (ca === undefined) {
    return {
      issue: () => Promise.reject(new ZtunnelError('identity.unavailable', NO_AUTHORITY)),
      close: () => undefined,
    };
  }
  const [{ createCaAuthority }, { grpcTarget }] = await Promise.all([
    import('./ca-authority.ts'),
    import('../xds/target.ts'),
  ]);
  const target = grpcTarget(ca, config);
  return createCaAuthority({ target, lifetimeMs: secretTtlMs, impersonate: proxyMode === 'shared' }, { log });
}
