// The alerts for Prometheus: promtool accepts them, each fires on its fault and none on calm series, and each has its page.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const ALERTS = join(ROOT, 'deploy', 'alerts');
const PROMTOOL = '/usr/bin/promtool';
const skip = existsSync(PROMTOOL) ? false : 'apt-get install prometheus';

for (const [command, file] of [
  ['check', 'ambit.rules.yaml'],
  ['test', 'ambit.test.yaml'],
] as const) {
  test(`promtool ${command} rules has nothing to say against ${file}`, { skip }, () => {
    const { status, stdout, stderr } = spawnSync(PROMTOOL, [command, 'rules', join(ALERTS, file)], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, `${stdout}${stderr}`);
  });
}

test('each alert has a case in which it fires and a page', () => {
  const rules = readFileSync(join(ALERTS, 'ambit.rules.yaml'), 'utf8');
  const cases = readFileSync(join(ALERTS, 'ambit.test.yaml'), 'utf8');
  const pages = [...readFileSync(join(ROOT, 'docs', 'alerts.md'), 'utf8').matchAll(/^## (.+)$/gm)];
  const anchors = pages.map(([, title = '']) => title.toLowerCase().replaceAll(' ', '-'));
  const names = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name = '']) => name);
  assert.equal(names.length, 8);
  for (const name of names) assert.ok(cases.includes(`alertname="${name}"`), name);
  const linked = [...rules.matchAll(/runbook_url: docs\/alerts\.md#(\S+)/g)].map(([, anchor = '']) => anchor);
  assert.deepEqual(linked.toSorted(), anchors.toSorted());
});
