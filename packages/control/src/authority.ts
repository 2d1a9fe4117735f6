// Which authority this control plane runs, from its configuration: one that was plugged in, or a root of its own, kept in a
// Secret or in the state directory. Decided once, at the start.
import { CertificateAuthority } from './ca/certificate-authority.ts';
import { DirectoryStore } from './ca/directory-store.ts';
import { hasPluggedIn, PluggedIn } from './ca/plugged-in.ts';
import { SecretMaterialStore } from './ca/secret-material-store.ts';
import { SelfSigned } from './ca/self-signed.ts';
import type { SigningSource } from './ca/signing-source.ts';
import type { ControlConfig } from './config/config.ts';
import { ControlError } from './errors.ts';
import type { KubeClient } from '@ambit/kube';
import { createSecretStore } from './kubernetes/secret-store.ts';
import type { Log } from '@ambit/log';

/** @throws ControlError when there is nothing that can sign */
export async function openAuthority(
  config: ControlConfig,
  kube: KubeClient | undefined,
  log: Log,
): Promise<CertificateAuthority> {
  return CertificateAuthority.open({
    source: await signingSource(config, kube),
    stateDirectory: config.state,
    trustDomain: config.trustDomain,
    defaultTtlMs: config.defaultTtl,
    maxTtlMs: config.maxTtl,
    log,
  });
}

async function signingSource(config: ControlConfig, kube: KubeClient | undefined): Promise<SigningSource> {
  const now = Date.now;
  // A directory that was named must be there; the default one is looked for.
  if (config.origins['caDir'] !== 'default' || (await hasPluggedIn(config.caDir))) {
    return new PluggedIn({ directory: config.caDir, retainMs: config.maxTtl, now });
  }
  const isSecret = config.caStorage === 'secret' || (config.caStorage === 'auto' && config.cluster === 'in-cluster');
  if (isSecret && kube === undefined) {
    throw new ControlError('config.invalid', '--ca-storage=secret needs a Kubernetes API server', {
      next: 'add --kubernetes kubeconfig, or keep the root in a file: --ca-storage file',
    });
  }
  const store =
    isSecret && kube !== undefined
      ? new SecretMaterialStore(
          createSecretStore({ client: kube, namespace: config.rootNamespace, name: 'istio-ca-secret' }),
        )
      : new DirectoryStore(config.state);
  return new SelfSigned({ store, trustDomain: config.trustDomain, overlapMs: config.rootOverlap, now });
}
