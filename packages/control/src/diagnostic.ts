// What the control plane has to say about somebody's objects: upstream writes such things as status conditions and
// warnings on the objects; here they are values that `ambit control lint` prints and the admin port serves.
import type { ObjectRef, Place } from './objects/types.ts';

export type Severity = 'error' | 'warning' | 'info';

export interface Diagnostic {
  /** Stable, dotted: `config.yaml_syntax`, `config.bad_field`, `policy.l7_in_allow`, `waypoint.not_ready`. */
  readonly code: string;
  /** `error`: the object, or a part of it, has no effect or not the one it says. */
  readonly severity: Severity;
  /** One sentence: what is wrong, with the values. */
  readonly message: string;
  /** What to do about it. */
  readonly remedy: string;
  /** The object it is about; undefined when it could not even be read. */
  readonly ref?: ObjectRef | undefined;
  /** The field in the object, as a path: `spec.rules[0].to[0].operation.ports[1]`. */
  readonly path?: string | undefined;
  /** Filled in by sources that know it. */
  readonly place?: Place | undefined;
}
