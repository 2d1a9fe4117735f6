// Statuses of a CONNECT as upstream's log has them: `503 Service Unavailable`.

/**
 * Phrases of the statuses that a mesh proxy answers with. Not `STATUS_CODES` of node:http: importing that module loads all
 * of Node's fetch as well, 14 MB in every worker.
 */
const PHRASES: ReadonlyMap<number, string> = new Map([
  [400, 'Bad Request'],
  [401, 'Unauthorized'],
  [403, 'Forbidden'],
  [404, 'Not Found'],
  [431, 'Request Header Fields Too Large'],
  [500, 'Internal Server Error'],
  [502, 'Bad Gateway'],
  [503, 'Service Unavailable'],
  [504, 'Gateway Timeout'],
]);

/** The number alone when its phrase is not known. */
export function statusText(status: number): string {
  const phrase = PHRASES.get(status);
  return phrase === undefined ? String(status) : `${status} ${phrase}`;
}
