// The resources in force, by name, and what a batch did to them. A name may pass from one object to another within a
// batch, so a batch is: take back, then put, then compare the ends.
import type { XdsResource } from './resource.ts';

export class ResourceTable {
  readonly #byName = new Map<string, XdsResource>();
  #before = new Map<string, XdsResource | undefined>();

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): XdsResource | undefined {
    return this.#byName.get(name);
  }

  values(): Iterable<XdsResource> {
    return this.#byName.values();
  }

  takeBack(resource: XdsResource): void {
    this.#note(resource.name);
    this.#byName.delete(resource.name);
  }

  put(resource: XdsResource): void {
    this.#note(resource.name);
    this.#byName.set(resource.name, resource);
  }

  /** What is different since the last call, byte for byte. */
  delta(): ReadonlyMap<string, XdsResource | undefined> {
    const delta = new Map<string, XdsResource | undefined>();
    for (const [name, before] of this.#before) {
      const after = this.#byName.get(name);
      if (!isSame(before, after)) delta.set(name, after);
    }
    this.#before = new Map();
    return delta;
  }

  #note(name: string): void {
    if (!this.#before.has(name)) this.#before.set(name, this.#byName.get(name));
  }
}

/** Everything else of a resource is read off the same message, so equal bytes are equal resources. */
function isSame(a: XdsResource | undefined, b: XdsResource | undefined): boolean {
  if (a === b) return true;
  return a !== undefined && b !== undefined && Buffer.compare(a.value, b.value) === 0;
}
