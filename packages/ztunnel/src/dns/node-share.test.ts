import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodePlaces, NodeShare } from './node-share.ts';

function fill(share: NodeShare): number {
  let taken = 0;
  while (share.take()) taken++;
  return taken;
}

test('one pod gets a fifth, and what it gives back another may take', () => {
  const places = new NodePlaces(1000);
  const one = new NodeShare(places);
  assert.equal(fill(one), 200);
  assert.equal(places.taken, 200);
  const two = new NodeShare(places);
  const before = fill(two);
  for (let index = 0; index < 200; index++) one.give();
  assert.ok(fill(two) > 0);
  assert.ok(two.held > before && two.held <= 250);
  assert.equal(places.taken, two.held);
});

test('however many pods want all places, one more gets some and they never run out', () => {
  const places = new NodePlaces();
  const hostile = Array.from({ length: 250 }, () => new NodeShare(places));
  // In turn, as questions come, until nobody gets any more.
  for (let isMoving = true; isMoving; ) {
    isMoving = false;
    for (const share of hostile) if (share.take()) isMoving = true;
  }
  assert.ok(places.taken <= 1024);
  assert.ok(new NodeShare(places).take());
  const most = Math.max(...hostile.map(({ held }) => held));
  const least = Math.min(...hostile.map(({ held }) => held));
  assert.ok(most - least <= 1, `${least}..${most}`);
});
