// An API server, and what it takes to be let in there.
import type { Agent } from 'node:https';

/** What one request needs to be let in. Certificates and tokens may be rotated between two calls. */
export interface Authorization {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsMaterial;
  /** An agent that goes through the configured proxy; undefined: connect directly. */
  readonly proxyAgent: Agent | undefined;
}

export interface TlsMaterial {
  readonly ca: string | Buffer | undefined;
  readonly cert: string | Buffer | undefined;
  readonly key: string | Buffer | undefined;
  readonly servername: string | undefined;
  readonly rejectUnauthorized: boolean;
}

export interface KubeEndpoint {
  /** Base address; may have a path. */
  readonly server: URL;
  /** @throws KubeError `kube.credentials` when there are none to be had (a plugin failed, a file is gone) */
  authorize(): Promise<Authorization>;
}

/** What the process finds around itself. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** With `token` and `ca.crt`, as the kubelet mounts it. */
  readonly serviceAccountDirectory: string;
}
