// One step that takes a while, told on standard error: a line that is replaced on a terminal, plain lines elsewhere.
// Plain JavaScript for Node 20: it runs before anything is installed.

/** A duration as people read it: `0.42 s`, `14.2 s`, `3 min 5 s`. */
export function duration(ms) {
  if (ms < 9_995) return `${(ms / 1000).toFixed(ms < 995 ? 2 : 1)} s`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** Runs `work` under a progress line. `work` gets `say(text)`, which replaces the line; its result is returned. */
export async function step(what, work, stream = process.stderr) {
  const startedAt = performance.now();
  const isLive = stream.isTTY === true;
  let detail = '';
  const draw = () => {
    const line = `  ${what}${detail === '' ? '' : ` · ${detail}`} · ${duration(performance.now() - startedAt)}`;
    stream.write(`\r\u001b[2K${line.slice(0, (stream.columns || 80) - 1)}`);
  };
  const timer = isLive ? setInterval(draw, 200) : undefined;
  if (isLive) draw();
  else stream.write(`  ${what} ...\n`);
  let state = 'failed';
  try {
    const result = await work(text => {
      detail = text;
    });
    state = 'ready';
    return result;
  } finally {
    clearInterval(timer);
    const tail = state === 'ready' && detail !== '' ? ` · ${detail}` : '';
    const line = `  ${state.padEnd(6)} ${what}${tail}`;
    stream.write(`${isLive ? '\r\u001b[2K' : ''}${line.padEnd(58)} ${duration(performance.now() - startedAt)}\n`);
  }
}
