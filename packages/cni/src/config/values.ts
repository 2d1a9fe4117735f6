// How one option's text becomes a value, the same for flags and environment. A refusal is a phrase that completes "expected".
import { parseDurationMs, parseIp } from '@ambit/mesh';
import { readGoBoolean } from '../pod/overrides.ts';

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly expected: string };
export type Parser<T> = (text: string) => Parsed<T>;

/** As Go reads it, since Istio's manifests are written for that: true, false, 1, 0 and so on. */
export const flag: Parser<boolean> = text => {
  const value = readGoBoolean(text);
  return value === undefined ? refuse('true or false') : accept(value);
};

export const text: Parser<string> = accept;

/** Milliseconds from `500ms`, `10s`, `1m`; a bare number is seconds. */
export const duration: Parser<number> = value => {
  const ms = parseDurationMs(value);
  return ms === undefined ? refuse('a duration such as 500ms or 10s') : accept(Math.round(ms));
};

/** 0 or less switches off, as upstream has it. */
export const port: Parser<number> = value => {
  const number = Number(value);
  if (!/^-?\d{1,5}$/.test(value) || number > 65_535) return refuse('a port, or 0 for none');
  return accept(Math.max(0, number));
};

export const address: Parser<string> = value => {
  const ip = parseIp(value);
  return ip === undefined ? refuse('an IP address') : accept(ip);
};

export const list: Parser<readonly string[]> = value =>
  accept(
    value
      .split(',')
      .map(item => item.trim())
      .filter(item => item !== ''),
  );

export function choice<T extends string>(...choices: readonly T[]): Parser<T> {
  return value => {
    const found = choices.find(each => each === value.toLowerCase());
    return found === undefined ? refuse(choices.join(' or ')) : accept(found);
  };
}

function accept<T>(value: T): Parsed<T> {
  return { ok: true, value };
}

function refuse(expected: string): { readonly ok: false; readonly expected: string } {
  return { ok: false, expected };
}
