// How one option's text becomes a value: the syntax every spelling (flag, environment, file) shares. A refusal is a
// sentence that completes "expected ..."; config.ts says which option it was about.
import { parseDurationMs } from '@ambit/mesh';

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly expected: string };
export type Parser<T> = (text: string) => Parsed<T>;

/** Milliseconds from `100ms`, `24h`, `1h30m`; a bare number is seconds, as in Istio's variables. */
export const duration: Parser<number> = text => {
  const ms = parseDurationMs(text);
  return ms === undefined ? refuse('a duration such as 100ms, 30s or 24h') : accept(Math.round(ms));
};

export const flag: Parser<boolean> = text => {
  if (text === 'true') return accept(true);
  return text === 'false' ? accept(false) : refuse('true or false');
};

export const text: Parser<string> = value => (value === '' ? refuse('a text that is not empty') : accept(value));

/** Empty is a value: "no network", "not there". */
export const anyText: Parser<string> = accept;

export function integer(min: number, max: number): Parser<number> {
  return value => {
    const number = Number(value);
    const isWhole = /^\d{1,9}$/.test(value) && number >= min && number <= max;
    return isWhole ? accept(number) : refuse(`a whole number from ${min} to ${max}`);
  };
}

export function choice<T extends string>(...choices: readonly T[]): Parser<T> {
  return value => {
    const found = choices.find(each => each === value.toLowerCase());
    return found === undefined ? refuse(choices.join(' or ')) : accept(found);
  };
}

/** Comma-separated; spaces around items and empty items are dropped. */
export const list: Parser<readonly string[]> = value =>
  accept(
    value
      .split(',')
      .map(item => item.trim())
      .filter(item => item !== ''),
  );

/** A DNS name, as trust domains and domain suffixes are. */
export const dnsName: Parser<string> = value =>
  value.length <= 253 && /^[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?$/.test(value) ? accept(value) : refuse('a DNS name');

/** Where to listen. `off` listens nowhere. */
export type Listen = { readonly host: string; readonly port: number } | 'off';

/** `host:port`, `[v6]:port`, `:port` (every address), or `off`. */
export const listen: Parser<Listen> = value => {
  if (value === 'off' || value === '') return accept('off');
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) return refuse('ADDRESS:PORT, [IPv6]:PORT, :PORT or off');
  return accept({ host: match[1] ?? (match[2] === '' ? '::' : (match[2] ?? '::')), port });
};

function accept<T>(value: T): Parsed<T> {
  return { ok: true, value };
}

function refuse(expected: string): { readonly ok: false; readonly expected: string } {
  return { ok: false, expected };
}
