// What goes wrong in the mesh of this machine, each with a stable code (ux.md: area.cause), where it is and what to do next.

export type LocalErrorCode =
  | 'local.argument'
  | 'local.rights'
  | 'local.not_up'
  | 'local.part_failed'
  | 'local.timeout'
  | 'local.name_taken'
  | 'local.port_taken'
  | 'local.unknown_workload'
  | 'local.workload_gone'
  | 'local.foreign_network'
  | 'local.addresses_used_up'
  | 'local.no_subnet'
  | 'local.network'
  | 'local.not_enrolled'
  | 'local.service_conflict'
  | 'local.running'
  | 'local.engine'
  | 'local.unsupported'
  | 'local.state';

export interface LocalErrorOptions {
  readonly where?: string | undefined;
  readonly next?: string | undefined;
  readonly cause?: unknown;
}

export class LocalError extends Error {
  readonly code: LocalErrorCode;
  readonly where: string | undefined;
  readonly next: string | undefined;

  constructor(code: LocalErrorCode, message: string, options: LocalErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'LocalError';
    this.code = code;
    this.where = options.where;
    this.next = options.next;
  }
}
