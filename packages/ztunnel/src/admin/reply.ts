// What an admin endpoint answers: everything at once, or in pieces for as long as the reader takes them.

export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string | Uint8Array | AsyncIterable<string>;
  /** Each piece is sent at once: whoever reads it watches. */
  readonly isLive?: true;
  readonly headers?: Readonly<Record<string, string>>;
}

export function text(status: number, body: string): Reply {
  return { status, type: 'text/plain; charset=utf-8', body };
}

export function json(value: unknown): Reply {
  return { status: 200, type: 'application/json', body: `${JSON.stringify(value, undefined, 2)}\n` };
}
