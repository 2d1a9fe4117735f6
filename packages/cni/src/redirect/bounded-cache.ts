// A map that forgets what was put in first when it is full.

export class BoundedCache<V> {
  readonly #max: number;
  readonly #values = new Map<string, V>();

  /** @param max entries, at least 1 */
  constructor(max: number) {
    this.#max = max;
  }

  get(key: string): V | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: V): void {
    const [oldest] = this.#values.keys();
    if (this.#values.size >= this.#max && oldest !== undefined && !this.#values.has(key)) this.#values.delete(oldest);
    this.#values.set(key, value);
  }

  delete(key: string): void {
    this.#values.delete(key);
  }
}
