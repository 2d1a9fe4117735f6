// The routing of replies that carry the connection mark: in each family a rule that sends them to table 100, and a route
// there that delivers everything locally. All functions act in the namespace the thread is in. The families are programmed
// each on its own: a rule that exists in one says nothing of the other. Others' routes in table 100 stay.
import { readFileSync } from 'node:fs';
import {
  addRule,
  deleteRoute,
  deleteRule,
  Errno,
  listRoutes,
  listRules,
  NativeError,
  NetlinkProtocol,
  NetlinkSocket,
  type Route,
  type Rule,
  replaceRoute,
  type RouteSpec,
  type RuleSpec,
  setLink,
  SysError,
} from '@ambit/native';
import type { Drift, RedirectPlan } from './redirect-plan.ts';
import { CONNECTION_MARK, familiesOf, type IpFamily, MARK_MASK, ROUTE_TABLE, RULE_PRIORITY } from './redirect-rules.ts';
import { orThrow } from './visit.ts';

/** The index of lo, which is the first device of every namespace. */
const LOOPBACK_DEVICE = 1;
const MARK = { value: CONNECTION_MARK, mask: MARK_MASK } as const;
/** Bound for the removal of the same rule added several times, before kernels refused that. */
const MAX_DUPLICATES = 8;
/** Of the kernel's answer, for a family: some 5000 rules. Root in a pod makes as many as he likes, and we look every 4 s. */
const MAX_LIST_BYTES = 512 * 1024;
/** What a kernel without IPv6 answers. */
const NO_FAMILY: readonly number[] = [Errno.EAFNOSUPPORT, Errno.EOPNOTSUPP];

/** The rules and the routes of table 100 as they are: enough to judge, and to see whether anything changed. */
export interface RoutingState {
  readonly rules: readonly Rule[];
  readonly routes: readonly Route[];
  /** There were more than are looked through: nothing is known of them. */
  readonly isTooMuch: boolean;
}

/** @throws CniError enrol.routes */
export function addRedirectRoutes(plan: RedirectPlan): void {
  using socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  // Container engines may set it up at the same time as they call us; while it is down it takes no IPv6 route.
  orThrow('enrol.routes', 'lo cannot be set up', () => setLink(LOOPBACK_DEVICE, { up: true }, socket));
  for (const family of wantedFamilies(plan)) {
    const name = `IPv${family}`;
    // The route first: a rule without it would drop what it leads there.
    orThrow('enrol.routes', `the ${name} route of table ${ROUTE_TABLE} cannot be set`, () =>
      replaceRoute(routeSpec(family), socket),
    );
    orThrow('enrol.routes', `the ${name} routing rule cannot be added`, () =>
      unless([Errno.EEXIST], () => addRule(ruleSpec(family), socket)),
    );
  }
}

/** @throws CniError enrol.routes */
export function removeRedirectRoutes(): void {
  using socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  for (const family of [4, 6] as const) {
    const name = `IPv${family}`;
    orThrow('enrol.routes', `the ${name} routing rule cannot be deleted`, () => {
      let isThere = true;
      for (let i = 0; i < MAX_DUPLICATES && isThere; i++) {
        isThere = unless([Errno.ENOENT, ...NO_FAMILY], () => deleteRule(ruleSpec(family), socket));
      }
    });
    orThrow('enrol.routes', `the ${name} route of table ${ROUTE_TABLE} cannot be deleted`, () =>
      unless([Errno.ESRCH, Errno.ENOENT, ...NO_FAMILY], () => deleteRoute(routeSpec(family), socket)),
    );
  }
}

/** @throws CniError enrol.routes */
export function routingState(): RoutingState {
  return orThrow('enrol.routes', 'routing rules and routes cannot be listed', () => {
    using socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
    try {
      const rules = listRules(socket, MAX_LIST_BYTES);
      return { rules, routes: listRoutes(ROUTE_TABLE, socket, MAX_LIST_BYTES), isTooMuch: false };
    } catch (error) {
      if (!(error instanceof NativeError) || error.code !== 'native.bounds') throw error;
      return { rules: [], routes: [], isTooMuch: true };
    }
  });
}

/** What of ours is missing, or with no plan, what of ours is there. */
export function routingDrift(state: RoutingState, plan: RedirectPlan | undefined): readonly Drift[] {
  if (state.isTooMuch) {
    // Of somebody who is no member it is none of our business.
    const what = `there are too many routing rules, or routes in table ${ROUTE_TABLE}, to look through`;
    return plan === undefined ? [] : [{ part: 'routing-rule', what }];
  }
  const wanted = plan === undefined ? [] : wantedFamilies(plan);
  return ([4, 6] as const).flatMap(family => {
    const isWanted = wanted.includes(family);
    // Without IPv6 in the plan an agent that had it may have been here; its routing harms nobody.
    if (!isWanted && plan !== undefined) return [];
    const verdict = isWanted ? 'is gone' : 'is left over';
    const drift: Drift[] = [];
    if (state.rules.some(rule => isOurRule(rule, family)) !== isWanted) {
      const mark = `0x${CONNECTION_MARK.toString(16)}/0x${MARK_MASK.toString(16)}`;
      drift.push({ part: 'routing-rule', what: `the IPv${family} routing rule for mark ${mark} ${verdict}` });
    }
    if (state.routes.some(route => isOurRoute(route, family)) !== isWanted) {
      drift.push({ part: 'route', what: `the local IPv${family} route in table ${ROUTE_TABLE} ${verdict}` });
    }
    return drift;
  });
}

/** Those the plan asks for and this namespace has; a device without IPv6 refuses the route. */
function wantedFamilies(plan: RedirectPlan): readonly IpFamily[] {
  return familiesOf(plan).filter(family => family === 4 || loopbackHasIpv6());
}

function loopbackHasIpv6(): boolean {
  try {
    // The kernel shows the values of the reading thread's namespace.
    return readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'latin1').trim() !== '1';
  } catch {
    return false; // no such file: a kernel without IPv6
  }
}

function ruleSpec(family: IpFamily): RuleSpec {
  return { family, priority: RULE_PRIORITY, table: ROUTE_TABLE, mark: MARK };
}

function routeSpec(family: IpFamily): RouteSpec {
  return { to: everything(family), table: ROUTE_TABLE, type: 'local', device: LOOPBACK_DEVICE };
}

function isOurRule(rule: Rule, family: IpFamily): boolean {
  const isNarrowed = rule.to ?? rule.from ?? rule.iif ?? rule.oif;
  return (
    rule.family === family &&
    rule.priority === RULE_PRIORITY &&
    rule.table === ROUTE_TABLE &&
    rule.mark?.value === MARK.value &&
    rule.mark.mask === MARK.mask &&
    isNarrowed === undefined &&
    !rule.hasMore
  );
}

function isOurRoute(route: Route, family: IpFamily): boolean {
  return (
    route.family === family &&
    route.table === ROUTE_TABLE &&
    route.type === 'local' &&
    route.to === everything(family) &&
    route.device === LOOPBACK_DEVICE
  );
}

function everything(family: IpFamily): string {
  return family === 4 ? '0.0.0.0/0' : '::/0';
}

/** @returns whether `f` succeeded; false for one of the given answers of the kernel */
function unless(errnos: readonly number[], f: () => void): boolean {
  try {
    f();
    return true;
  } catch (error) {
    if (error instanceof SysError && errnos.includes(error.errno)) return false;
    throw error;
  }
}
