// The mesh from a control plane: one delta xDS stream for addresses and policies, applied as it comes. While the control
// plane is away what is known stays in force and nothing expires. Loads the gRPC client and the schemas, so import it only
// where a control plane is configured.
import type { MeshState, MeshView } from '@ambit/mesh';
import { type DeltaEvent, DeltaRunner, type DeltaStats, type DeltaStatus } from '@ambit/wire/grpc';
import { ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL } from '@ambit/wire/resources';
import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { ControlPlaneServer } from '../config/control-plane.ts';
import type { Logger } from '../log.ts';
import type { MeshChange } from '../supervisor.ts';
import { Lookup } from './lookup.ts';
import { MeshApplier, type Prefetcher } from './mesh-applier.ts';
import { xdsNode } from './node.ts';
import { grpcTarget } from './target.ts';

export interface XdsSourceDeps {
  readonly state: MeshState & MeshView;
  readonly prefetcher: Prefetcher;
  readonly onChange: (change: MeshChange) => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export interface XdsStatus extends DeltaStatus {
  readonly stats: DeltaStats;
}

export interface XdsSource {
  /** Resolves when the first state is applied; for good. */
  readonly ready: Promise<void>;
  readonly status: XdsStatus;
  /** Only with `XDS_ON_DEMAND`. */
  readonly lookup: Lookup | undefined;
  stop(): Promise<void>;
}

/** Begins to follow `server`. */
export function startXds(deps: XdsSourceDeps, server: ControlPlaneServer, config: Config): XdsSource {
  const { state, prefetcher, onChange, clock, random, log } = deps;
  const isShared = config.proxyMode === 'shared';
  const localNode = isShared ? config.nodeName || undefined : undefined;
  const applier = new MeshApplier({ state, prefetcher, onChange, log }, { localNode });
  const runner = new DeltaRunner(
    {
      target: grpcTarget(server, config),
      apply: update => applier.apply(update),
      onEvent: event => logEvent(log, server.url, event),
      now: () => clock.now(),
      after: (ms, run) => clock.after(ms, run),
      random,
    },
    {
      node: xdsNode(config),
      types: [
        { typeUrl: ADDRESS_TYPE_URL, mode: config.xdsOnDemand ? 'onDemand' : 'wildcard' },
        // Policies are always all here: one that is missing would be found out too late.
        { typeUrl: AUTHORIZATION_TYPE_URL, mode: 'wildcard' },
      ],
    },
  );
  const demand = (name: string) => runner.demand(ADDRESS_TYPE_URL, name);
  const lookup = config.xdsOnDemand ? new Lookup({ view: state, demand }, { network: config.network }) : undefined;
  runner.start();
  return {
    ready: runner.ready,
    get status(): XdsStatus {
      return { ...runner.status, stats: runner.stats };
    },
    lookup,
    stop: async () => await runner.stop(),
  };
}

function logEvent(log: Logger, url: string, event: DeltaEvent): void {
  switch (event.kind) {
    case 'connected':
      log.info('Stream established', [
        ['id', event.attempt],
        ['url', url],
      ]);
      return;
    case 'ready':
      log.info('The first state of the control plane is applied');
      return;
    case 'nack':
      log.error('A response of the control plane was refused in part', [
        ['type_url', event.typeUrl],
        ['nonce', event.nonce],
        ['error', event.error],
      ]);
      return;
    case 'ended': {
      const fields = [
        ['reason', event.reason],
        ['error', event.error?.message],
        ['retry_in', `${Math.round(event.retryInMs)}ms`],
        ['err.code', event.error?.code],
      ] as const;
      // Control planes end streams now and then on purpose.
      if (event.reason === 'Reconnect' || event.reason === 'Complete')
        log.debug('The control plane ended the stream', fields);
      else log.warn('No stream to the control plane, what is known stays in force', fields);
    }
  }
}
