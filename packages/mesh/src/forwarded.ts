// The `forwarded` header (RFC 7239) of a tunnel request: the application's address as the sender saw it, and the name of
// the service it meant. The receiver reads only the name, for telemetry.
import { formatSocketAddress, type SocketAddress } from './address.ts';

const LONGEST_HEADER = 1024;
const ASCII = /^[\x20-\x7e\t]*$/;

/** `for="1.2.3.4:80"`, with `;host=name` when the service is known. */
export function formatForwarded(source: SocketAddress, host?: string): string {
  const origin = `for="${formatSocketAddress(source)}"`;
  return host === undefined || host === '' ? origin : `${origin};host=${host}`;
}

/** The `host` of the header, without quotes; undefined when absent, empty, not ASCII or longer than a header may be. */
export function parseForwardedHost(text: string): string | undefined {
  if (text.length > LONGEST_HEADER || !ASCII.test(text)) return undefined;
  for (const part of text.split(';')) {
    const trimmed = part.trim();
    if (!trimmed.startsWith('host=')) continue;
    const value = trimmed.slice('host='.length);
    const isQuoted = value.length >= 2 && value.startsWith('"') && value.endsWith('"');
    const host = isQuoted ? value.slice(1, -1) : value;
    return host === '' ? undefined : host;
  }
  return undefined;
}
