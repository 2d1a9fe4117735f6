import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isUnitOf, unitText } from './up-systemd.ts';

const COMMAND = [process.execPath, '/opt/a b/main.ts', 'up', '--foreground', '--dir', '/srv/100%$x'];
const hasAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0;

test('the unit restarts what dies, and its command is quoted as systemd reads it', () => {
  const text = unitText(COMMAND);
  assert.match(text, /^Restart=always$/m);
  assert.match(text, /"\/opt\/a b\/main\.ts" up --foreground --dir "\/srv\/100%%\$\$x"$/m);
});

test('a unit belongs to the mesh of its own directory only', () => {
  assert.equal(isUnitOf(unitText(COMMAND), '/srv/100%$x'), true);
  assert.equal(isUnitOf(unitText(COMMAND), '/srv'), false);
  assert.equal(isUnitOf(unitText(COMMAND), undefined), false);
  assert.equal(isUnitOf(unitText(['ambit', 'up']), undefined), true);
});

test('systemd finds nothing wrong with the unit', { skip: !hasAnalyze && 'systemd-analyze is missing' }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-unit-'));
  try {
    const path = join(directory, 'ambit.service');
    writeFileSync(path, unitText([process.execPath, 'up']));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
    assert.equal(status, 0, `${stdout}${stderr}`);
    // Other units of this machine are not ours to judge.
    assert.doesNotMatch(stderr, /ambit\.service/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
