// What goes wrong in the node agent and its plugin, each with a stable code (ux.md: area.cause), what it concerns and what
// to do next.

export type CniErrorCode =
  | 'cni.argument'
  | 'cni.config'
  | 'cni.conflist'
  | 'cni.protocol'
  | 'cni.agent_unreachable'
  | 'cni.kubernetes'
  | 'cni.unsupported'
  | 'enrol.no_netns'
  | 'enrol.netns_gone'
  | 'enrol.netns_foreign'
  | 'enrol.rules'
  | 'enrol.routes'
  | 'enrol.probes'
  | 'enrol.no_ztunnel'
  | 'enrol.refused'
  | 'enrol.disconnected'
  | 'enrol.protocol'
  | 'enrol.not_member'
  | 'enrol.unknown_pod'
  | 'enrol.timeout'
  | 'enrol.limit';

export interface CniErrorOptions {
  readonly where?: string;
  readonly next?: string;
  readonly cause?: unknown;
}

export class CniError extends Error {
  readonly code: CniErrorCode;
  readonly where: string | undefined;
  readonly next: string | undefined;

  constructor(code: CniErrorCode, message: string, options: CniErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'CniError';
    this.code = code;
    this.where = options.where;
    this.next = options.next;
  }
}
