// Chooses which live tunnels a busy worker gives to an idle one: together not more than the asked share of what all its
// tunnels moved since the last choice. Pure.

/** A tunnel and the bytes it has moved in its life. */
export interface Movable {
  readonly movedBytes: number;
}

/**
 * Largest first, as long as they fit; a tunnel alone larger than the share stays, since moving it would only move the
 * problem. `since` holds what each had moved at the last choice and is brought up to date.
 */
export function chooseToShed<T extends Movable>(tunnels: readonly T[], since: WeakMap<T, number>, share: number): T[] {
  let total = 0;
  const recent = tunnels.map(tunnel => {
    const moved = tunnel.movedBytes - (since.get(tunnel) ?? 0);
    since.set(tunnel, tunnel.movedBytes);
    total += moved;
    return { tunnel, moved };
  });
  recent.sort((a, b) => b.moved - a.moved);
  const chosen: T[] = [];
  let left = total * share;
  for (const { tunnel, moved } of recent) {
    if (moved === 0 || moved > left) continue;
    left -= moved;
    chosen.push(tunnel);
  }
  return chosen;
}
