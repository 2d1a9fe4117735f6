// Questions that pods may have under way in the node's own network, where a resolver on loopback is asked: they cost sockets and
// ports of the node, and no pod may use those up. A pod may hold as many as a quarter of those that are free at that moment.
// So one pod alone gets a fifth of all, pods that want all of them get the less the more they are (28 of them 32 each, 250 of
// them 4), and as many are left for the next one.

/** In one worker. A question by TCP has a socket of its own, those by UDP share them. */
const NODE_PLACES = 1024;
const PART_OF_FREE = 4;

export class NodePlaces {
  readonly #count: number;
  #taken = 0;

  constructor(count = NODE_PLACES) {
    this.#count = count;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Whether somebody who holds `held` got one more. */
  take(held: number): boolean {
    if (held >= Math.ceil((this.#count - this.#taken) / PART_OF_FREE)) return false;
    this.#taken++;
    return true;
  }

  give(): void {
    this.#taken--;
  }
}

/** The places of one pod. */
export class NodeShare {
  readonly #places: NodePlaces;
  #held = 0;

  constructor(places: NodePlaces) {
    this.#places = places;
  }

  get held(): number {
    return this.#held;
  }

  /** False: the pod has its share. */
  take(): boolean {
    if (!this.#places.take(this.#held)) return false;
    this.#held++;
    return true;
  }

  give(): void {
    this.#held--;
    this.#places.give();
  }
}
