import assert from 'node:assert/strict';
import { mkdtemp, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Log, LogFilter } from '../log.ts';
import type { ResolvConf } from './resolv-conf.ts';
import { ResolverFile } from './resolver-file.ts';

const filter = LogFilter.parse('info');
assert.ok(filter);
const log = new Log({ write: () => undefined, now: () => 0 }, { format: 'plain', filter }).scope('test');

test('of a file without end the beginning counts, in whole lines', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'resolv-'));
  const path = join(directory, 'resolv.conf');
  const told: string[] = [];
  const onChange = ({ set }: ResolvConf): void => void told.push(set.resolvers.map(({ ip }) => ip).join());
  const file = new ResolverFile(path, { log, onChange });
  try {
    const first = 'nameserver 10.0.0.1\n';
    await writeFile(path, `${first}${'#'.repeat(65_536 - 2 * first.length)}\nnameserver 10.0.0.23\n`);
    await truncate(path, 3 * 2 ** 30);
    file.start(10_000);
    assert.deepEqual(told, ['10.0.0.1']);
  } finally {
    file.stop();
    await rm(directory, { recursive: true });
  }
});

test('the file is told at once and after each change, also by renaming; missing for a moment changes nothing', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'resolv-'));
  const path = join(directory, 'resolv.conf');
  const told: string[] = [];
  let wake = (): void => undefined;
  const onChange = ({ set }: ResolvConf): void => {
    told.push(set.resolvers.map(({ ip }) => ip).join());
    wake();
  };
  const file = new ResolverFile(path, { log, onChange });
  try {
    await writeFile(path, 'nameserver 10.0.0.1\n');
    file.start(20);
    assert.deepEqual(told, ['10.0.0.1']);
    const next = async (change: () => Promise<void>): Promise<void> => {
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      await change();
      await promise;
    };
    await next(async () => writeFile(path, 'nameserver 10.0.0.2\n'));
    await rm(path);
    await next(async () => {
      await writeFile(`${path}.new`, 'nameserver 10.0.0.33\n');
      await rename(`${path}.new`, path);
    });
    assert.deepEqual(told, ['10.0.0.1', '10.0.0.2', '10.0.0.33']);
  } finally {
    file.stop();
    await rm(directory, { recursive: true });
  }
});
