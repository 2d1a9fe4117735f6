// Finds out whether a silent peer is still there: PING after an interval without a byte, and the end if nothing comes back.
// Only a silent peer is asked, for traffic is proof of life; upstream pings every ten seconds whatever happens.
import type { ControlFrames } from './control-frames.ts';
import type { Engine } from './engine.ts';
import type { Timer } from './timers.ts';

const PAYLOAD = Buffer.from('ambitpng', 'latin1');

export interface KeepAliveSettings {
  /** A tunnel that received nothing for this long is asked with a PING. */
  readonly pingIntervalMs: number;
  /** A PING that is not answered within this time ends the tunnel. */
  readonly pingTimeoutMs: number;
}

export class KeepAlive {
  /** Kept by the tunnel: when bytes came last, monotonic milliseconds. */
  lastReceivedMs: number;
  readonly #engine: Engine;
  readonly #frames: ControlFrames;
  readonly #settings: KeepAliveSettings;
  readonly #onSilent: () => void;
  /** 0: none is unanswered. */
  #pingSentMs = 0;
  #timer: Timer | undefined;

  /** `onSilent`: a PING went unanswered; called at most once, and after that nothing is asked any more. */
  constructor(engine: Engine, frames: ControlFrames, settings: KeepAliveSettings, onSilent: () => void) {
    this.#engine = engine;
    this.#frames = frames;
    this.#settings = settings;
    this.#onSilent = onSilent;
    this.lastReceivedMs = engine.nowMs;
  }

  start(): void {
    this.#lookAt(this.#engine.nowMs + this.#settings.pingIntervalMs);
  }

  stop(): void {
    this.#engine.timers.cancel(this.#timer);
    this.#timer = undefined;
  }

  /** A PING with the eight bytes of `buffer` from `start` came back; it may be another one than ours. */
  onPong(buffer: Buffer, start: number): void {
    if (this.#pingSentMs !== 0 && PAYLOAD.compare(buffer, start, start + 8) === 0) this.#pingSentMs = 0;
  }

  #look(): void {
    const { pingIntervalMs, pingTimeoutMs } = this.#settings;
    const now = this.#engine.nowMs;
    // Bytes that came after the PING say the same as its answer, which may be queued behind them.
    if (this.lastReceivedMs > this.#pingSentMs) this.#pingSentMs = 0;
    if (this.#pingSentMs !== 0 && now - this.#pingSentMs >= pingTimeoutMs) {
      this.#onSilent();
      return;
    }
    let next = this.lastReceivedMs + pingIntervalMs;
    if (this.#pingSentMs === 0 && now >= next) {
      this.#pingSentMs = now;
      this.#frames.ping(PAYLOAD, 0, false);
    }
    // An answer does not move the timer, so it looks again after an interval even while the answer may still come.
    if (this.#pingSentMs !== 0) next = Math.min(this.#pingSentMs + pingTimeoutMs, now + pingIntervalMs);
    this.#lookAt(Math.max(next, now + 1));
  }

  #lookAt(atMs: number): void {
    this.#timer = this.#engine.timers.at(atMs, () => this.#look());
  }
}
