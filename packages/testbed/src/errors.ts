// How a testbed fails: one class, a stable code, and the three parts a person needs (what, where, what to do next).

export type TestbedErrorCode =
  | 'testbed.no_sandbox' // this machine or user cannot make one, or we are not inside one
  | 'testbed.busy' // another bed of the same sandbox did not end in time
  | 'testbed.argument' // a name, address or number that cannot be meant
  | 'testbed.name_taken' // a node, pod or service of that name exists
  | 'testbed.limit' // more nodes, pods or services than the address plan holds
  | 'testbed.unknown' // no such node or pod
  | 'testbed.command_failed' // ip, nft or another tool said no
  | 'testbed.timeout' // something did not happen within its bound
  | 'testbed.closed' // use of a bed, pod or agent after its end
  | 'enrol.refused' // the proxy acknowledged a pod with an error; its text is in the message
  | 'enrol.protocol' // the proxy broke the enrolment protocol
  | 'enrol.disconnected'; // the proxy went away while an answer was due

export interface TestbedErrorDetail {
  /** Object the failure belongs to: a node, a pod, a command line. */
  readonly where?: string;
  /** What a person should do or read next. */
  readonly next?: string;
  readonly cause?: unknown;
}

export class TestbedError extends Error {
  readonly code: TestbedErrorCode;
  readonly where: string | undefined;
  readonly next: string | undefined;

  constructor(code: TestbedErrorCode, message: string, detail: TestbedErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = 'TestbedError';
    this.code = code;
    this.where = detail.where;
    this.next = detail.next;
  }
}

/** The failure as lines for a terminal, without the word `error:` and without a stack. */
export function describeTestbedError(error: TestbedError): string {
  const lines = [`${error.message}  [${error.code}]`];
  if (error.where !== undefined) lines.push(`  where   ${error.where}`);
  if (error.next !== undefined) lines.push(`  next    ${error.next}`);
  return lines.join('\n');
}
