// Certificates of one run, made with the openssl tool: P-256 leaves for the chains and for the generator of handshakes.
// The peer's root is RSA, everybody else's is P-256; verifying an RSA signature is the cheaper of the two.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun } from '@ambit/testbed';
import { generateDevRoot } from '@ambit/ztunnel';

export interface Certificates {
  readonly directory: string;
  readonly rootCertPath: string;
  readonly rootKeyPath: string;
  /** Where the generator finds what each mesh proxy accepts; the peer's is missing without its root. */
  readonly generator: { readonly own: string; readonly peer: string | undefined };
}

/**
 * Makes a root and `<directory>/<account>.pem`, `.key` and `.both` (the two in one file) for the accounts web, cart and
 * generator, whose identities are spiffe://cluster.local/ns/shop/sa/<account>. ZTUNNEL_ROOT_CERT and ZTUNNEL_ROOT_KEY name
 * the root that the peer ztunnel signs its own certificates with: it accepts nobody else's.
 * @throws testbed.command_failed
 */
export async function makeCertificates(directory: string, env: NodeJS.ProcessEnv): Promise<Certificates> {
  await mkdir(directory, { recursive: true });
  const rootCertPath = join(directory, 'root.pem');
  const rootKeyPath = join(directory, 'root.key');
  const root = await generateDevRoot();
  await writeFile(rootCertPath, root.certPem);
  await writeFile(rootKeyPath, root.keyPem, { mode: 0o600 });
  for (const name of ['web', 'cart', 'generator']) await makeLeaf(directory, name);
  const peer = await makePeerLeaf(join(directory, 'peer'), env);
  return { directory, rootCertPath, rootKeyPath, generator: { own: directory, peer } };
}

async function makePeerLeaf(directory: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const [cert, key] = [env['ZTUNNEL_ROOT_CERT'], env['ZTUNNEL_ROOT_KEY']];
  if (cert === undefined || key === undefined) return undefined;
  await mkdir(directory, { recursive: true });
  await copyFile(cert, join(directory, 'root.pem'));
  await copyFile(key, join(directory, 'root.key'));
  await makeLeaf(directory, 'generator');
  return directory;
}

/** Signed by the root in the same directory. */
async function makeLeaf(directory: string, name: string): Promise<void> {
  const base = join(directory, name);
  const openssl = async (...args: string[]) => mustRun('openssl', args);
  const extensions = [
    // nginx verifies a DNS name, and knows no SPIFFE identities.
    `subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/${name},DNS:${name}.bench`,
    'keyUsage=critical,digitalSignature',
    'extendedKeyUsage=serverAuth,clientAuth',
    'basicConstraints=critical,CA:FALSE',
  ];
  await writeFile(`${base}.ext`, extensions.join('\n'));
  await openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${base}.ec`);
  await openssl('pkcs8', '-topk8', '-nocrypt', '-in', `${base}.ec`, '-out', `${base}.key`);
  await openssl('req', '-new', '-key', `${base}.key`, '-subj', '/O=bench', '-out', `${base}.csr`);
  const root = ['-CA', join(directory, 'root.pem'), '-CAkey', join(directory, 'root.key'), '-CAcreateserial'];
  const signing = ['x509', '-req', '-in', `${base}.csr`, ...root];
  const leaf = await openssl(...signing, '-days', '2', '-sha256', '-extfile', `${base}.ext`);
  await writeFile(`${base}.pem`, leaf);
  await writeFile(`${base}.both`, leaf + (await openssl('pkcs8', '-topk8', '-nocrypt', '-in', `${base}.ec`)));
}
