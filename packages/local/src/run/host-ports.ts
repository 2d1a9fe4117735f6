// Published ports of a mesh without root: the host's network is not the mesh's, so they are opened out there, and the
// listening descriptors go in with the command that serves them. Nobody accepts before the workload runs: callers wait.
import { listenTcp, SysError } from '@ambit/native';
import { LocalError } from '../errors.ts';
import type { PublishedPort } from '../workload.ts';

const BACKLOG = 128;

/** Descriptors, in the order of `ports`; they stay open while this process or a child that has them does. @throws local.port_taken, local.rights */
export function openHostPorts(ports: readonly PublishedPort[]): readonly number[] {
  return ports.map(({ ip, hostPort }) => {
    try {
      return listenTcp({ address: ip, port: hostPort, backlog: BACKLOG }).fd.release();
    } catch (cause) {
      if (!(cause instanceof SysError)) throw cause;
      if (cause.code === 'EACCES' || cause.code === 'EPERM') {
        throw new LocalError('local.rights', `port ${hostPort} of this machine is for root to publish`, {
          next: 'publish another: --publish HOSTPORT:PORT',
          cause,
        });
      }
      throw new LocalError('local.port_taken', `cannot listen on ${ip}:${hostPort}: ${cause.code}`, {
        next: 'publish another port: --publish HOSTPORT:PORT',
        cause,
      });
    }
  });
}
