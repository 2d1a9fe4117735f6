// Where workers ask for routes. A destination that the control plane has yet to speak of is asked for first, and the answer
// waits; without a word of it in time the route is refused, until the mesh says anything new.
import type { Ip } from '@ambit/mesh';
import { errorText } from '../errors.ts';
import type { FromWorker, PodInfo } from '../worker-protocol.ts';
import { answerInbound, answerOutbound, denyUnsure, type RouteDeps, type RouteOptions } from './route-answers.ts';
import type { WorkerLink } from './worker-link.ts';

export interface RouteDeskDeps extends RouteDeps {
  /**
   * Finds out about a destination before a route to it is decided. Undefined when the mesh can be believed as it is; else
   * whether it can be now.
   */
  readonly lookup?: (destination: Ip) => Promise<boolean> | undefined;
  readonly podOf: (uid: string) => PodInfo | undefined;
}

export class RouteDesk {
  readonly #deps: RouteDeskDeps;
  readonly #options: RouteOptions;
  /** A route was refused for want of an answer: whatever comes next may be it. */
  #hasUnsureRoutes = false;
  #lookupsFailed = 0;

  constructor(deps: RouteDeskDeps, options: RouteOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Routes refused because the control plane did not say in time what a destination is. */
  get lookupsFailed(): number {
    return this.#lookupsFailed;
  }

  /** Whether a route was refused for want of an answer since the last call; who asks has the workers forget their routes. */
  takeUnsure(): boolean {
    const had = this.#hasUnsureRoutes;
    this.#hasUnsureRoutes = false;
    return had;
  }

  outbound(link: WorkerLink, question: Extract<FromWorker, { type: 'needOutboundRoute' }>): void {
    const { id, uid, input } = question;
    const answer = (isSure: boolean): void => {
      // Looked up again: the pod may have gone while we asked.
      const pod = this.#deps.podOf(uid);
      const route = isSure ? answerOutbound(this.#deps, this.#options, pod, question) : denyUnsure(input.destination);
      link.send({ type: 'outboundRoute', id, route });
    };
    const isPodOpen = this.#deps.podOf(uid) !== undefined;
    const pending = isPodOpen ? this.#deps.lookup?.(input.destination.ip) : undefined;
    if (pending === undefined) answer(true);
    else void this.#answerLater(pending, answer);
  }

  inbound(link: WorkerLink, question: Extract<FromWorker, { type: 'needInboundRoute' }>): void {
    const route = answerInbound(this.#deps, this.#options, this.#deps.podOf(question.uid), question);
    link.send({ type: 'inboundRoute', id: question.id, route });
  }

  async #answerLater(pending: Promise<boolean>, answer: (isSure: boolean) => void): Promise<void> {
    const isSure = await pending.catch((error: unknown) => {
      this.#deps.log.error('A look-up failed on a bug, the connection is refused', [['error', errorText(error)]]);
      return false;
    });
    if (!isSure) {
      this.#lookupsFailed++;
      this.#hasUnsureRoutes = true;
    }
    answer(isSure);
  }
}
