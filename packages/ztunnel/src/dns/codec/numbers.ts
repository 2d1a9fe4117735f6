// The numbers of DNS that this proxy needs (IANA "Domain Name System Parameters").

export const HEADER_BYTES = 12;
export const CLASS_IN = 1;

export const Rcode = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;

export const Type = { A: 1, CNAME: 5, SOA: 6, AAAA: 28, OPT: 41, IXFR: 251, AXFR: 252 } as const;

/** Bits of the header's second word. */
export const Flag = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080 } as const;
export const OPCODE_MASK = 0x7800;
export const RCODE_MASK = 0x000f;

/** Types with a name of their own in logs and counters; the rest is counted together. */
const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [1, 'A'],
  [2, 'NS'],
  [5, 'CNAME'],
  [6, 'SOA'],
  [12, 'PTR'],
  [15, 'MX'],
  [16, 'TXT'],
  [28, 'AAAA'],
  [33, 'SRV'],
  [35, 'NAPTR'],
  [43, 'DS'],
  [48, 'DNSKEY'],
  [64, 'SVCB'],
  [65, 'HTTPS'],
  [255, 'ANY'],
  [257, 'CAA'],
]);

/** `AAAA`; `TYPE65280` for a type without a name here (RFC 3597). */
export function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `TYPE${type}`;
}

/** The name for counters, whose number is bounded: every other type is `UNKNOWN`. */
export function countedTypeName(type: number): string {
  return TYPE_NAMES.get(type) ?? 'UNKNOWN';
}
