import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BYTES_PER_WINDOW_UPDATE, FLOOD_KIND, FLOOD_LIMITS, FloodGuard } from './flood-guard.ts';

describe('flood guard', () => {
  for (const [name, kind] of Object.entries(FLOOD_KIND)) {
    const limit = FLOOD_LIMITS[kind] ?? { burst: 0, perSecond: 0 };

    test(`allows exactly the burst of ${name} at one instant`, () => {
      const guard = new FloodGuard(1000);
      for (let i = 0; i < limit.burst; i++) assert.ok(guard.note(kind, 1000));
      assert.equal(guard.note(kind, 1000), false);
    });

    test(`allows ${name} for ever at its rate, and not at twice the rate`, () => {
      const guard = new FloodGuard(0);
      const seconds = 20;
      for (let i = 1; i <= limit.perSecond * seconds; i++) {
        assert.ok(guard.note(kind, (i * 1000) / limit.perSecond));
      }
      const busy = new FloodGuard(0);
      let allowed = 0;
      let i = 0;
      while (busy.note(kind, (++i * 500) / limit.perSecond)) allowed++;
      assert.ok(allowed >= limit.burst && allowed <= limit.burst * 2 + 1);
    });
  }

  test('kinds do not share tokens', () => {
    const guard = new FloodGuard(0);
    while (guard.note(FLOOD_KIND.SETTINGS, 0));
    assert.ok(guard.note(FLOOD_KIND.PING, 0));
  });

  test('bytes sent pay for window updates, up to the burst', () => {
    const guard = new FloodGuard(0);
    while (guard.note(FLOOD_KIND.WINDOW_UPDATE, 0));
    guard.creditSent(3 * BYTES_PER_WINDOW_UPDATE);
    for (let i = 0; i < 3; i++) assert.ok(guard.note(FLOOD_KIND.WINDOW_UPDATE, 0));
    assert.equal(guard.note(FLOOD_KIND.WINDOW_UPDATE, 0), false);
    guard.creditSent(2 ** 50);
    let allowed = 0;
    while (guard.note(FLOOD_KIND.WINDOW_UPDATE, 0)) allowed++;
    assert.equal(allowed, FLOOD_LIMITS[FLOOD_KIND.WINDOW_UPDATE]?.burst);
  });

  test('a clock that steps back neither refills nor fails', () => {
    const guard = new FloodGuard(10_000);
    while (guard.note(FLOOD_KIND.PING, 10_000));
    assert.equal(guard.note(FLOOD_KIND.PING, 0), false);
    assert.ok(guard.note(FLOOD_KIND.PING, 1000));
  });
});
