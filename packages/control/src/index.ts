// The public surface of @ambit/control.
export { ControlError } from './errors.ts';
export type { Diagnostic, Severity } from './diagnostic.ts';
