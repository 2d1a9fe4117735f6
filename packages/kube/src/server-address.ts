// The address of an API server, checked: what carries a token is encrypted, unless somebody says that it need not be.
import { configError } from './errors.ts';

/** @throws KubeError `kube.config` */
export function serverAddress(text: string, skipsVerification: boolean): URL {
  const server = URL.parse(text);
  if (server === null || (server.protocol !== 'https:' && server.protocol !== 'http:')) {
    throw configError(`"${text}" is no address of an API server`);
  }
  if (server.protocol === 'http:' && !skipsVerification) {
    throw configError(`${text} is not encrypted; set insecure-skip-tls-verify if that is meant`);
  }
  return server;
}
