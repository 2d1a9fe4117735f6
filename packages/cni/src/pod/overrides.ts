// What a pod's annotations change in the rules of its namespace. Pure. Read when a pod is enrolled; an annotation that
// cannot be read changes nothing and is named in a warning, so that a typing mistake cannot keep a pod out of the mesh.
import type { RedirectPlan } from '../redirect/redirect-plan.ts';
import type { AgentPod } from './agent-pod.ts';

/** What holds for all pods of the node. */
export type PlanDefaults = Pick<RedirectPlan, 'dnsCapture' | 'ipv6' | 'probeSnat'>;

export interface PlanWithWarnings {
  readonly plan: RedirectPlan;
  /** One line each, for the log. */
  readonly warnings: readonly string[];
}

const BYPASS_INBOUND = 'ambient.istio.io/bypass-inbound-capture';
const DNS_CAPTURE = 'ambient.istio.io/dns-capture';
const VIRTUAL_INTERFACES = 'istio.io/reroute-virtual-interfaces';

const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** The kernel's IFNAMSIZ without the final zero. */
const MAX_INTERFACE_BYTES = 15;
const MAX_INTERFACES = 64;
const MAX_SHOWN = 40;

export function redirectPlanOf(pod: Pick<AgentPod, 'annotations'>, defaults: PlanDefaults): PlanWithWarnings {
  const warnings: string[] = [];
  const annotation = (name: string) => (Object.hasOwn(pod.annotations, name) ? pod.annotations[name] : undefined);
  const flag = (name: string, otherwise: boolean): boolean => {
    const text = annotation(name);
    if (text === undefined) return otherwise;
    const value = readGoBoolean(text);
    if (value === undefined) {
      warnings.push(`annotation ${name} is neither true nor false and is ignored: ${shown(text)}`);
    }
    return value ?? otherwise;
  };
  const plan: RedirectPlan = {
    ...defaults,
    dnsCapture: flag(DNS_CAPTURE, defaults.dnsCapture),
    bypassInbound: flag(BYPASS_INBOUND, false),
    virtualInterfaces: readInterfaces(annotation(VIRTUAL_INTERFACES), warnings),
  };
  return { plan, warnings };
}

/** Exactly what Go's strconv.ParseBool reads. */
export function readGoBoolean(text: string): boolean | undefined {
  if (TRUE.has(text)) return true;
  return FALSE.has(text) ? false : undefined;
}

/** In the annotation's order, each once; a last `+` or `*` stands for any rest of a name. */
function readInterfaces(text: string | undefined, warnings: string[]): readonly string[] {
  const names = new Set<string>();
  for (const item of (text ?? '').split(',')) {
    const name = item.trim();
    if (name === '') continue;
    if (!isInterfaceName(name)) {
      warnings.push(`annotation ${VIRTUAL_INTERFACES} names no interface, ignored: ${shown(name)}`);
    } else if (names.size === MAX_INTERFACES) {
      warnings.push(
        `annotation ${VIRTUAL_INTERFACES} names more than ${MAX_INTERFACES} interfaces, the rest is ignored`,
      );
      break;
    } else {
      names.add(name);
    }
  }
  return [...names];
}

/** Stricter than the kernel: what would need quoting in a rule is in nobody's interface name. */
function isInterfaceName(name: string): boolean {
  return name.length <= MAX_INTERFACE_BYTES && /^\w[\w.-]*[+*]?$/.test(name);
}

function shown(text: string): string {
  return JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
}
