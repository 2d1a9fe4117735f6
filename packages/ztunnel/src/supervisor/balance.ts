// Decides when a busy worker should hand live tunnels to an idle one. The kernel spreads new connections over workers by
// hash, which says nothing of how much each will carry; a live tunnel can be moved, so an unlucky spread can be mended.
// Pure: one call a period with the processor time that each worker has used so far.

/** A worker above this share of a core may shed. */
const BUSY_SHARE = 0.7;
/** Only when another one has this much less to do. */
const LEAST_GAP = 0.4;
/** Periods in a row before anything is moved: a burst is over sooner than it is balanced. */
const PATIENCE = 2;
/** Periods of rest after a move, so that its effect is seen before the next. */
const REST = 3;

export interface Move {
  readonly from: number;
  readonly to: number;
  /** Share of the busy worker's traffic to move. */
  readonly share: number;
}

export class Balance {
  #before = new Map<number, number>();
  #unequal = 0;
  #rest = 0;

  /** `used` maps a worker to the processor microseconds it has used; `periodMs` is the time since the last call. */
  next(used: ReadonlyMap<number, number>, periodMs: number): Move | undefined {
    const shares = [...used].flatMap(([worker, micros]) => {
      const before = this.#before.get(worker);
      // A worker that was replaced starts at zero again: its first period tells nothing.
      return before === undefined || micros < before ? [] : [{ worker, share: (micros - before) / (periodMs * 1000) }];
    });
    this.#before = new Map(used);
    if (this.#rest > 0) {
      this.#rest--;
      return undefined;
    }
    shares.sort((a, b) => a.share - b.share);
    const idlest = shares[0];
    const busiest = shares.at(-1);
    if (idlest === undefined || busiest === undefined) return undefined;
    const gap = busiest.share - idlest.share;
    if (busiest.share < BUSY_SHARE || gap < LEAST_GAP) {
      this.#unequal = 0;
      return undefined;
    }
    this.#unequal++;
    if (this.#unequal < PATIENCE) return undefined;
    this.#unequal = 0;
    this.#rest = REST;
    return { from: busiest.worker, to: idlest.worker, share: gap / 2 / busiest.share };
  }
}
