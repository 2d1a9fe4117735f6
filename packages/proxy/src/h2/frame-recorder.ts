// Test support: a FrameSink that turns a session into a list of lines which do not depend on how the bytes were cut,
// and checks the promises of FrameSink about the order and counts of DATA pieces while it does.

import assert from 'node:assert/strict';
import type { Buffer } from 'node:buffer';
import type { FrameSink } from './frame-reader.ts';
import type { Setting } from './frames.ts';
import type { H2Fault } from './h2-fault.ts';

/** Records events as text. */
export class FrameRecorder implements FrameSink {
  readonly lines: string[] = [];
  #openStream = 0;
  #openRemaining = -1;
  #openBytes = '';
  #openEnd = false;

  /** All events, a DATA frame that is still incomplete included. */
  transcript(): string[] {
    return this.#openStream === 0 ? this.lines : [...this.lines, `partial ${this.#openStream} ${this.#openBytes}`];
  }

  onDataFrame(streamId: number, flowLength: number, endStream: boolean): void {
    assert.equal(this.#openStream, 0, 'a DATA frame began inside another');
    this.lines.push(`data-frame ${streamId} ${flowLength} ${endStream}`);
    this.#openStream = streamId;
    this.#openRemaining = -1;
    this.#openBytes = '';
    this.#openEnd = endStream;
  }

  onData(streamId: number, buffer: Buffer, start: number, end: number, remaining: number, endStream: boolean): void {
    assert.equal(streamId, this.#openStream);
    assert.ok(start <= end && end <= buffer.length);
    if (this.#openRemaining >= 0) assert.equal(remaining, this.#openRemaining - (end - start));
    assert.ok(remaining > 0 || endStream === this.#openEnd);
    assert.ok(remaining === 0 || !endStream);
    this.#openRemaining = remaining;
    this.#openBytes += buffer.toString('hex', start, end);
    if (remaining > 0) return;
    this.lines.push(`data ${streamId} ${this.#openBytes} ${endStream}`);
    this.#openStream = 0;
  }

  onHeaders(streamId: number, buffer: Buffer, start: number, end: number, endStream: boolean): void {
    this.lines.push(`headers ${streamId} ${buffer.toString('hex', start, end)} ${endStream}`);
  }

  onPriority(streamId: number): void {
    this.lines.push(`priority ${streamId}`);
  }

  onRstStream(streamId: number, code: number): void {
    this.lines.push(`rst ${streamId} ${code}`);
  }

  onSettings(settings: readonly Setting[]): void {
    this.lines.push(`settings ${settings.map(setting => `${setting.id}=${setting.value}`).join(' ')}`);
  }

  onSettingsAck(): void {
    this.lines.push('settings-ack');
  }

  onPing(buffer: Buffer, start: number, ack: boolean): void {
    this.lines.push(`ping ${buffer.toString('hex', start, start + 8)} ${ack}`);
  }

  onGoaway(lastStreamId: number, code: number, buffer: Buffer, start: number, end: number): void {
    this.lines.push(`goaway ${lastStreamId} ${code} ${buffer.toString('latin1', start, end)}`);
  }

  onWindowUpdate(streamId: number, increment: number): void {
    this.lines.push(`window ${streamId} ${increment}`);
  }

  onIgnoredFrame(type: number, length: number): void {
    this.lines.push(`ignored ${type} ${length}`);
  }

  onStreamFault(fault: H2Fault): void {
    assert.equal(fault.scope, 'stream');
    this.lines.push(`stream-fault ${fault.streamId} ${fault.code}`);
  }
}
