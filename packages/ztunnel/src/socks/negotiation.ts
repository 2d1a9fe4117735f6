// The server's half of a SOCKS5 negotiation (RFC 1928): no authentication, CONNECT only. A pure state machine that says how
// many bytes it wants next, so that nothing beyond the request is ever read: what a client sends ahead stays in its
// socket for whoever carries the connection.
//
// Life: greeting -> methods -> head -> (name length ->) address -> done, or refused.
import { ipFromBytes, parseIp, type ReasonCode, type SocketAddress } from '@ambit/mesh';

export type SocksTarget =
  | { readonly kind: 'address'; readonly address: SocketAddress }
  | { readonly kind: 'name'; readonly hostname: string; readonly port: number };

export type SocksMove =
  /** Send `reply` if there is one, then read `wanted` bytes. */
  | { readonly kind: 'more'; readonly reply: Uint8Array | undefined }
  | { readonly kind: 'target'; readonly target: SocksTarget }
  /** Send `reply`, then close. */
  | { readonly kind: 'refused'; readonly reply: Uint8Array; readonly error: string };

/** RFC 1928 section 6, field REP. */
export const SOCKS_REPLY = {
  succeeded: 0,
  generalFailure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  timeout: 6,
  commandNotSupported: 7,
} as const;
type ReplyCode = (typeof SOCKS_REPLY)[keyof typeof SOCKS_REPLY];

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const CONNECT = 1;
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;
const PORT_BYTES = 2;

type Stage = 'greeting' | 'methods' | 'head' | 'nameLength' | 'ipv4' | 'ipv6' | 'name' | 'done';

export class SocksNegotiation {
  /** Bytes that `take` must be called with next, 1..257; 0 when it is over. */
  wanted = 2;
  #stage: Stage = 'greeting';

  /** @param bytes exactly `wanted` */
  take(bytes: Uint8Array): SocksMove {
    switch (this.#stage) {
      case 'greeting':
        return this.#greeting(bytes);
      case 'methods':
        if (!bytes.includes(NO_AUTHENTICATION)) return this.#refuse('the client wants to authenticate');
        return this.#want('head', 4, Uint8Array.of(VERSION, NO_AUTHENTICATION));
      case 'head':
        return this.#head(bytes);
      case 'nameLength':
        return bytes[0] === 0
          ? this.#refuse('a host name of no bytes')
          : this.#want('name', (bytes[0] ?? 0) + PORT_BYTES);
      case 'name':
        return this.#name(bytes);
      case 'ipv4':
      case 'ipv6':
        return this.#address(bytes);
      case 'done':
        throw new Error('invariant: a negotiation that is over was given bytes');
    }
  }

  #greeting([version, methods = 0]: Uint8Array): SocksMove {
    if (version !== VERSION) return this.#refuse(`version ${version} of SOCKS`);
    return methods === 0 ? this.#refuse('no authentication method offered') : this.#want('methods', methods);
  }

  #head([version, command, , type]: Uint8Array): SocksMove {
    if (version !== VERSION) return this.#refuse(`version ${version} of SOCKS`);
    if (command !== CONNECT) return this.#refuse(`command ${command}`);
    switch (type) {
      case IPV4:
        return this.#want('ipv4', 4 + PORT_BYTES);
      case IPV6:
        return this.#want('ipv6', 16 + PORT_BYTES);
      case NAME:
        return this.#want('nameLength', 1);
      default:
        return this.#refuse(`address type ${type}`);
    }
  }

  #address(bytes: Uint8Array): SocksMove {
    const ip = ipFromBytes(bytes.subarray(0, -PORT_BYTES));
    if (ip === undefined) return this.#refuse('an address that is none');
    this.#end();
    return { kind: 'target', target: { kind: 'address', address: { ip, port: portOf(bytes) } } };
  }

  #name(bytes: Uint8Array): SocksMove {
    let hostname: string;
    try {
      hostname = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, -PORT_BYTES));
    } catch {
      return this.#refuse('a host name that is not UTF-8');
    }
    this.#end();
    const port = portOf(bytes);
    // Some clients send an address as a name, and no resolver would know it.
    const ip = parseIp(hostname);
    const target: SocksTarget =
      ip === undefined ? { kind: 'name', hostname, port } : { kind: 'address', address: { ip, port } };
    return { kind: 'target', target };
  }

  #want(stage: Stage, bytes: number, reply?: Uint8Array): SocksMove {
    this.#stage = stage;
    this.wanted = bytes;
    return { kind: 'more', reply };
  }

  /** Every violation is answered alike, as upstream does. */
  #refuse(what: string): SocksMove {
    this.#end();
    return {
      kind: 'refused',
      reply: socksReply(SOCKS_REPLY.commandNotSupported),
      error: `failed to negotiate socks connection: ${what}`,
    };
  }

  #end(): void {
    this.#stage = 'done';
    this.wanted = 0;
  }
}

/** The bound address is said to be 0.0.0.0:0: the client has no use for ours. */
export function socksReply(code: ReplyCode): Uint8Array {
  return Uint8Array.of(VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0);
}

/** What a client is told of a connection that did not come to be. */
export function socksRefusal(reason: ReasonCode): Uint8Array {
  return socksReply(REPLIES[reason] ?? SOCKS_REPLY.generalFailure);
}

const REPLIES: Partial<Record<ReasonCode, ReplyCode>> = {
  'dial.refused': SOCKS_REPLY.refused,
  'dial.timeout': SOCKS_REPLY.timeout,
  'dial.unreachable': SOCKS_REPLY.hostUnreachable,
  'route.unknown_destination': SOCKS_REPLY.hostUnreachable,
  'route.no_address': SOCKS_REPLY.hostUnreachable,
  'route.no_healthy_endpoint': SOCKS_REPLY.hostUnreachable,
  'route.loop': SOCKS_REPLY.notAllowed,
};

function portOf(bytes: Uint8Array): number {
  return ((bytes.at(-2) ?? 0) << 8) | (bytes.at(-1) ?? 0);
}
