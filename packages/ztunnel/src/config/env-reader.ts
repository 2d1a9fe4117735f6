// Reads environment variables once, remembers where each value came from, and gives every mistake the same shape:
// `invalid env var NAME=VALUE (why)`. It knows syntax only; what a value means is decided in config.ts.
import { parseDurationMs } from '@ambit/mesh';
import { ZtunnelError } from '../errors.ts';
import { parseCpuCount, parseQuantity } from './quantity.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a value came from; `file` is the mesh file or `PROXY_CONFIG`. */
export type ValueSource = 'default' | 'env' | 'file';

export class EnvReader {
  readonly #env: Environment;
  readonly #sources = new Map<string, ValueSource>();

  constructor(env: Environment) {
    this.#env = env;
  }

  /** Variable name -> where its value came from, for each variable asked for so far. */
  get sources(): ReadonlyMap<string, ValueSource> {
    return this.#sources;
  }

  /** The raw text; an empty value is a value, not "unset". */
  text(name: string): string | undefined {
    const value = this.#env[name];
    this.#sources.set(name, value === undefined ? 'default' : 'env');
    return value;
  }

  textOr(name: string, fallback: string): string {
    return this.text(name) ?? fallback;
  }

  noteFile(name: string): void {
    this.#sources.set(name, 'file');
  }

  /** Exactly `true` or `false`. @throws config.invalid */
  flag(name: string): boolean | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    if (value === 'true') return true;
    if (value === 'false') return false;
    throw this.invalid(name, value, 'expected true or false');
  }

  flagOr(name: string, fallback: boolean): boolean {
    return this.flag(name) ?? fallback;
  }

  /** True for exactly `wanted`, false for anything else; never an error (upstream's "exact true" variables). */
  isExactly(name: string, wanted: string): boolean {
    return this.text(name) === wanted;
  }

  /** Decimal integer from 0 to `max`. @throws config.invalid */
  integer(name: string, max: number): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    if (!/^\+?\d{1,19}$/.test(value)) throw this.invalid(name, value, 'expected a whole number');
    const number = Number(value);
    if (number > max) throw this.invalid(name, value, `must be at most ${max}`);
    return number;
  }

  integerOr(name: string, max: number, fallback: number): number {
    return this.integer(name, max) ?? fallback;
  }

  /** @throws config.invalid */
  durationMs(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const ms = parseDurationMs(value);
    if (ms === undefined) throw this.invalid(name, value, 'expected a duration such as 5s, 1h30m or 500ms');
    return ms;
  }

  durationMsOr(name: string, fallbackMs: number): number {
    return this.durationMs(name) ?? fallbackMs;
  }

  /** A CPU quantity rounded up to whole cores. @throws config.invalid */
  cpuCount(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const cores = parseCpuCount(value);
    if (cores === undefined) throw this.invalid(name, value, 'expected a CPU quantity such as 2, 1.5 or 500m');
    return cores;
  }

  /** Bytes, plain or as a quantity such as `256Mi`. @throws config.invalid */
  bytes(name: string, min: number, max: number): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const bytes = parseQuantity(value);
    if (bytes === undefined) throw this.invalid(name, value, 'expected bytes or a quantity such as 256Mi');
    if (bytes < min || bytes > max) throw this.invalid(name, value, `must be from ${min} to ${max} bytes`);
    return Math.floor(bytes);
  }

  /** One of `choices`, compared without regard to case. @throws config.invalid */
  choice<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const found = choices.find(choice => choice === value.toLowerCase());
    if (found === undefined) throw this.invalid(name, value, `expected ${choices.join(' or ')}`);
    return found;
  }

  invalid(name: string, value: string, why: string): ZtunnelError {
    return new ZtunnelError('config.invalid', `invalid env var ${name}=${value} (${why})`);
  }
}
