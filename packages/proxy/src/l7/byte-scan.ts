// How far a line's text goes. Most bytes of a head are looked at for nothing else, so four are looked at in one step.

const SP = 0x20;
const FOUR_SP = 0x20202020;
const FOUR_TOP_BITS = 0x80808080 | 0;

// Views are made once for the two slabs that an engine's bytes lie in, one for each direction.
let recentBytes: Uint8Array = new Uint8Array(0);
let recentView = new DataView(recentBytes.buffer);
let otherBytes = recentBytes;
let otherView = recentView;

/** Where in `bytes[start, end)` the next control character is, TAB, CR and LF included; `end` when there is none. */
export function controlFrom(bytes: Uint8Array, start: number, end: number): number {
  const view = bytes === recentBytes ? recentView : viewOf(bytes);
  let at = start;
  for (const last = end - 4; at <= last; at += 4) {
    const four = view.getInt32(at, true);
    // A byte below 0x20 borrows into its own top bit; one that had that bit itself is no control character. What it
    // borrows from the next byte is of no interest any more.
    if ((((four - FOUR_SP) | 0) & ~four & FOUR_TOP_BITS) !== 0) break;
  }
  while (at < end && (bytes[at] ?? 0) >= SP) at++;
  return at;
}

function viewOf(bytes: Uint8Array): DataView {
  const view = bytes === otherBytes ? otherView : new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  otherBytes = recentBytes;
  otherView = recentView;
  recentBytes = bytes;
  recentView = view;
  return view;
}
