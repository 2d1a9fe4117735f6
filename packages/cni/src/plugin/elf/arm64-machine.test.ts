// Golden words: what `as` for aarch64 makes of the text beside them. That they do what they should is shown by running the
// whole program (plugin-executable.test.ts), which needs qemu on other machines.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arm64Machine } from './arm64-machine.ts';
import { CodeBuffer } from './code-buffer.ts';
import type { Machine } from './machine.ts';

function words(write: (m: Machine) => void): readonly string[] {
  const code = new CodeBuffer();
  write(new Arm64Machine(code));
  const bytes = code.link(0x400000, new Map([['data', 0x41abcd]]));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, i) =>
    view
      .getUint32(4 * i, true)
      .toString(16)
      .padStart(8, '0'),
  );
}

for (const [text, write, golden] of [
  ['add x24, sp, #0', m => m.stackPointer('f'), ['910003f8']],
  ['mov x19, x20', m => m.set('a', 'b'), ['aa1403f3']],
  ['mov x6, #63', m => m.set('result', 63), ['d28007e6']],
  ['mov x20, #-32', m => m.set('b', -32), ['928003f4']],
  ['mov x19, #1; movk x19, #0x10, lsl #16', m => m.set('a', 0x100001), ['d2800033', 'f2a00213']],
  ['ldr x20, [x24]', m => m.load('b', 'f'), ['f9400314']],
  ['ldr x20, [x24, #8]', m => m.load('b', 'f', 8), ['f9400714']],
  ['ldrb w6, [x20, #3]', m => m.loadByte('result', 'b', 3), ['39400e86']],
  ['strb w6, [x23]', m => m.storeByte('result', 'e'), ['390002e6']],
  ['add x23, x23, #1', m => m.add('e', 1), ['910006f7']],
  ['add x23, x23, x6', m => m.add('e', 'result'), ['8b0602f7']],
  ['mov x9, #-1; add x23, x23, x9', m => m.add('e', -1), ['92800009', '8b0902f7']],
  ['sub x20, x20, x19', m => m.subtract('b', 'a'), ['cb130294']],
  [
    'mov x0, x21; mov x8, #94; svc #0; mov x6, x0',
    m => m.call('exit_group', 'c'),
    ['aa1503e0', 'd2800bc8', 'd4000001', 'aa0003e6'],
  ],
  ['mov x19, #0xabcd; movk x19, #0x41, lsl #16', m => m.set('a', { label: 'data' }), ['d29579b3', 'f2a00833']],
] as const satisfies readonly (readonly [string, (m: Machine) => void, readonly string[]])[]) {
  test(`assembles ${text}`, () => assert.deepEqual(words(write), golden));
}

test('branches forwards and backwards', () => {
  const golden = words(m => {
    m.label('start');
    m.jump('end'); // b +16
    m.jumpIf('result', 'below', 'a', 'start'); // cmp x6, x19; b.lo -8
    m.jumpIfNegative('result', 'end'); // cmp x6, xzr; b.mi +4
    m.label('end');
  });
  assert.deepEqual(golden, ['14000005', 'eb1300df', '54ffffc3', 'eb1f00df', '54000024']);
});
