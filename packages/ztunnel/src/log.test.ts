import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { type ByteSink, LineWriter } from './log/line-writer.ts';
import { formatJson, formatPlain, formatTime } from './log/log-format.ts';
import { Bare, Log, LogFilter } from './log.ts';

const TIME_MS = Date.UTC(2026, 7, 20, 10, 11, 12, 123) + 0.456;

function capture(format: 'plain' | 'json', filter: string): { log: Log; lines: string[] } {
  const parsed = LogFilter.parse(filter);
  assert.ok(parsed !== undefined);
  const lines: string[] = [];
  return { log: new Log({ write: line => lines.push(line), now: () => TIME_MS }, { format, filter: parsed }), lines };
}

test('plain lines are tab separated, strip the crate name and quote strings only', () => {
  const { log, lines } = capture('plain', 'info');
  log.scope('ztunnel::zds').info('connected', [
    ['path', new Bare('/run/x')],
    ['uid', 'a "b"\n'],
    ['n', 3],
    ['gone', undefined],
  ]);
  assert.deepEqual(lines, ['2026-08-20T10:11:12.123456Z\tinfo\tzds\tconnected\tpath=/run/x uid="a \\"b\\"\\n" n=3']);
});

test('a plain line without fields still ends with a tab', () => {
  const { log, lines } = capture('plain', 'info');
  log.scope('access').info('hello');
  assert.deepEqual(lines, ['2026-08-20T10:11:12.123456Z\tinfo\taccess\thello\t']);
});

test('JSON lines keep the scope and native numbers', () => {
  const { log, lines } = capture('json', 'debug');
  log.scope('ztunnel::zds').debug('connected', [
    ['path', new Bare('/run/x')],
    ['n', 3],
    ['ok', true],
  ]);
  assert.deepEqual(lines, [
    '{"level":"debug","time":"2026-08-20T10:11:12.123456Z","scope":"ztunnel::zds","message":"connected","path":"/run/x","n":3,"ok":true}',
  ]);
});

test('no field or message can start a new line', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (message, value) => {
      const line = {
        level: 'info' as const,
        timeMs: TIME_MS,
        scope: 'access',
        message,
        fields: [['a', value] as const, ['b', new Bare(value)] as const],
      };
      // oxlint-disable-next-line no-control-regex -- control characters are the point
      assert.doesNotMatch(formatPlain(line).replaceAll('\t', ''), /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
      const parsed: unknown = JSON.parse(formatJson(line));
      assert.ok(typeof parsed === 'object' && parsed !== null && 'message' in parsed && 'a' in parsed);
      assert.equal(parsed.message, message);
      assert.equal(parsed.a, value);
    }),
    { seed: 3 },
  );
});

test('time keeps microseconds at every carry', () => {
  assert.equal(formatTime(0.0004), '1970-01-01T00:00:00.000000Z');
  assert.equal(formatTime(999.9999), '1970-01-01T00:00:01.000000Z');
  assert.equal(formatTime(1.001), '1970-01-01T00:00:00.001001Z');
});

const threshold = (text: string, scope: string) => LogFilter.parse(text)?.thresholdOf(scope);

test('A3: filters by level, by scope, and off', () => {
  assert.equal(threshold('info', 'access'), 'info');
  assert.equal(threshold('off', 'access'), 'off');
  assert.equal(threshold('access=debug,info', 'access'), 'debug');
  assert.equal(threshold('access=debug,info', 'ztunnel::zds'), 'info');
  assert.equal(threshold('info,ztunnel=warn,ztunnel::zds=trace', 'ztunnel::zds'), 'trace');
  assert.equal(threshold('info,ztunnel=warn,ztunnel::zds=trace', 'ztunnel::xds'), 'warn');
  assert.equal(threshold('ztunnel::proxy:debug,info', 'ztunnel::proxy'), 'debug');
  assert.equal(threshold('access=debug', 'ztunnel::zds'), 'error');
  assert.equal(threshold('access', 'access'), 'trace');
  assert.equal(threshold('INFO', 'x'), 'info');
  for (const bad of ['access=loud', 'a b', '[span]=info', '=info', 'a==info', ',a:']) {
    assert.equal(LogFilter.parse(bad), undefined, bad);
  }
});

test('a filtered line is never formatted', () => {
  const { log, lines } = capture('plain', 'access=off,info');
  log.scope('access').error('x');
  assert.equal(log.scope('access').isEnabled('error'), false);
  log.scope('ztunnel::zds').debug('x');
  assert.deepEqual(lines, []);
});

/** Takes nothing until opened, then at most `chunk` bytes a call. */
class ValveSink implements ByteSink {
  readonly chunks: Buffer[] = [];
  isOpen = false;
  readonly #chunk: number;

  constructor(chunk: number) {
    this.#chunk = chunk;
  }

  write(bytes: Uint8Array): number | 'again' {
    if (!this.isOpen) return 'again';
    const taken = Buffer.from(bytes.subarray(0, this.#chunk));
    this.chunks.push(taken);
    return taken.length;
  }

  close(): void {}

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }
}

test('L1: a full queue drops new lines, counts them and says so when the reader returns', async () => {
  const sink = new ValveSink(7);
  const deps = { sink, droppedLine: (count: number) => `dropped ${count}` };
  const writer = new LineWriter(deps, { maxLines: 3, retryMs: 1 });
  for (let i = 0; i < 10; i++) writer.write(`line ${i}`);
  assert.equal(writer.droppedLines, 7);
  sink.isOpen = true;
  await writer.flush(5000);
  assert.equal(sink.text, 'line 0\nline 1\nline 2\ndropped 7\n');
});

test('L1: the queue is bounded in bytes too', () => {
  const writer = new LineWriter({ sink: new ValveSink(1), droppedLine: String }, { maxBytes: 10 });
  writer.write('x'.repeat(11));
  writer.write('12345');
  writer.write('123456');
  assert.equal(writer.droppedLines, 2);
});

test('a flush gives up at its deadline when the reader never comes', async () => {
  const writer = new LineWriter({ sink: new ValveSink(1), droppedLine: String }, { retryMs: 1 });
  writer.write('x');
  await writer.flush(5);
});

test('a broken sink drops and counts, and throws at nobody', async () => {
  const sink: ByteSink = {
    write: () => {
      throw new Error('EPIPE');
    },
    close: () => undefined,
  };
  const writer = new LineWriter({ sink, droppedLine: String });
  writer.write('a');
  await writer.flush(1000);
  writer.write('b');
  assert.equal(writer.droppedLines, 1);
});

const WRITER_SCRIPT = `
  import { LineWriter } from '${new URL('./log/line-writer.ts', import.meta.url).href}';
  import { openDescriptorSink } from '${new URL('./log/stdout-sink.ts', import.meta.url).href}';
  const sink = openDescriptorSink(1);
  const writer = new LineWriter({ sink, droppedLine: count => 'dropped ' + count }, { maxLines: 2000 });
  for (let i = 0; i < 5000; i++) writer.write('x'.repeat(200));
  // Nobody reads yet, so a blocking write would never reach this line.
  setTimeout(() => process.stderr.write('alive'), 30);
  await new Promise(resolve => process.stdin.once('data', resolve));
  await writer.flush(10_000);
  process.exit(0);
`;

test('a full pipe on standard output does not block the event loop', async () => {
  const child = spawn(process.execPath, ['--input-type=module', '-e', WRITER_SCRIPT], { stdio: 'pipe' });
  try {
    await once(child.stderr, 'data');
    let bytes = '';
    child.stdout.on('data', (chunk: Buffer) => (bytes += chunk.toString()));
    child.stdin.write('go');
    await once(child, 'close');
    assert.equal(child.exitCode, 0);
    const lines = bytes.trimEnd().split('\n');
    assert.equal(lines.length, 2001);
    assert.equal(lines.at(-1), 'dropped 3000');
  } finally {
    child.kill('SIGKILL');
  }
});

test('a regular file on standard output gets every line', async () => {
  const script = WRITER_SCRIPT.replace(/await new Promise.*\n/, '').replace('i < 5000', 'i < 100');
  const run = promisify(execFile);
  const { stdout } = await run('sh', [
    '-c',
    'f=$(mktemp); "$0" --input-type=module -e "$1" >"$f"; wc -l <"$f"; rm "$f"',
    process.execPath,
    script,
  ]);
  assert.equal(stdout.trim(), '100');
});
