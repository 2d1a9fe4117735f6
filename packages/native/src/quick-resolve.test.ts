import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';

const HOOK = new URL('./quick-resolve.ts', import.meta.url).href;
const NATIVE = new URL('./index.ts', import.meta.url).href;

/** What a fresh process that resolves quickly prints. */
function run(body: string): { readonly out: string; readonly err: string } {
  const program = `await import('${HOOK}');\n${body}`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  return { out: stdout.trim(), err: stderr };
}

describe('quick resolution', () => {
  test('a module is one and the same by its name, by its path and from within its package', () => {
    const { out, err } = run(`
      const byName = await import('@ambit/native');
      const byPath = await import('${NATIVE}');
      const { NativeError } = await import('${new URL('./errors.ts', import.meta.url).href}');
      console.log(byName === byPath, byName.NativeError === NativeError);`);
    assert.equal(out, 'true true', err);
  });

  test('it asks nobody for our own modules, and Node for all others', () => {
    const { out, err } = run(`
      import { registerHooks } from 'node:module';
      const asked = [];
      // A hook that is registered later is called first: what it hears of and who answers.
      registerHooks({ resolve: (name, context, next) => {
        const result = next(name, context);
        asked.push([name, result.shortCircuit === true || result.format === 'module-typescript']);
        return result;
      } });
      await import('@ambit/native');
      const names = new Map(asked);
      console.log(names.get('./fd.ts'), names.get('@ambit/native'), names.get('koffi') ?? names.get('node:fs'));`);
    assert.equal(out, 'true true false', err);
  });

  test('a file that is not there is an error that names it', () => {
    const directory = mkdtempSync(join(tmpdir(), 'ambit-'));
    try {
      writeFileSync(join(directory, 'a.ts'), `import './missing.ts';`);
      const { err } = run(`await import('file://${directory}/a.ts');`);
      assert.match(err, /missing\.ts/);
      assert.match(err, /ENOENT|ERR_MODULE_NOT_FOUND/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
