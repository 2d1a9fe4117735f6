// Loaded before ztunnel (`--import`) by tests of moving tunnels: every two seconds one of two workers gives all its tunnels to the
// other, whatever their load is, in turn.
import { Balance, type Move } from '../src/supervisor/balance.ts';

let turn = 0;

Balance.prototype.next = (used): Move | undefined => {
  const [one, other] = [...used.keys()].sort((a, b) => a - b);
  if (one === undefined || other === undefined) return undefined;
  return turn++ % 2 === 0 ? { from: one, to: other, share: 1 } : { from: other, to: one, share: 1 };
};
