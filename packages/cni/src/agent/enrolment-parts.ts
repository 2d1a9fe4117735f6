// What enrolment is made with and what it counts; types only.
import type { Log } from '@ambit/log';
import type { NetnsFinder } from '../netns/netns-finder.ts';
import type { MembershipRules } from '../pod/membership.ts';
import type { PlanDefaults } from '../pod/overrides.ts';
import type { RedirectBackend } from '../redirect/redirect-plan.ts';
import type { ZdsServer } from '../zds/zds-server.ts';
import type { PodRegistry } from './pod-registry.ts';
import type { ProbeSet } from './probe-set.ts';
import type { StatusWriter } from './status-writer.ts';

export interface EnrolmentDeps {
  readonly registry: PodRegistry;
  readonly zds: ZdsServer;
  readonly backend: RedirectBackend;
  /** undefined: nobody probes pods here. */
  readonly probes: ProbeSet | undefined;
  readonly finder: NetnsFinder;
  readonly status: StatusWriter;
  readonly log: Log;
  readonly now?: () => Date;
}

export interface EnrolmentOptions {
  readonly rules: MembershipRules;
  readonly plan: PlanDefaults;
  /** Where ztunnel's own pods are. */
  readonly systemNamespace: string;
  readonly hostRoot: string;
  /** Whether rules of pods that were enrolled before the agent's start are compared and mended. */
  readonly reconcileAtStart: boolean;
  /** How long a ztunnel may take to serve a pod, or to come, before it is tried again. */
  readonly answerTimeoutMs: number;
}

export interface EnrolmentCounters {
  add: number;
  update: number;
  delete: number;
  enrolled: number;
  removed: number;
  failed: number;
}
