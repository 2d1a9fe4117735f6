import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ZtunnelError } from '../errors.ts';
import { FileSource } from './file-source.ts';
import { readLocalConfigRemotely } from './read-remotely.ts';
import { type LocalMesh, readLocalConfig } from './reader.ts';

const meshOf = (name: string) => `workloads: [{uid: ${name}, namespace: a, workloadIps: [], services: {}}]\n`;

type Event = { readonly mesh: string | undefined } | { readonly error: string };

/** Events in order, each awaited by `next`. */
class Recorder {
  readonly #events: Event[] = [];
  #waiting: (() => void) | undefined;

  readonly read = async (text: string, source: string): Promise<LocalMesh> => readLocalConfig(text, source);
  readonly onMesh = (mesh: LocalMesh): void => this.#add({ mesh: mesh.workloads[0]?.uid });
  readonly onError = (error: ZtunnelError): void => this.#add({ error: error.message });

  async next(): Promise<Event> {
    while (this.#events.length === 0) await new Promise<void>(resolve => (this.#waiting = resolve));
    const event = this.#events.shift();
    assert.ok(event !== undefined);
    return event;
  }

  get waiting(): number {
    return this.#events.length;
  }

  #add(event: Event): void {
    this.#events.push(event);
    this.#waiting?.();
  }
}

async function withDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-local-'));
  try {
    await run(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function replace(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}

test('an atomic rename is seen, a bad version keeps the last good one and is reported once', () =>
  withDirectory(async directory => {
    const path = join(directory, 'mesh.yaml');
    await writeFile(path, meshOf('one'));
    const recorder = new Recorder();
    const source = new FileSource(recorder, { path, debounceMs: 5 });
    assert.equal((await source.start()).workloads[0]?.uid, 'one');
    try {
      await replace(path, meshOf('two'));
      assert.deepEqual(await recorder.next(), { mesh: 'two' });
      await replace(path, 'workloads: 3');
      const bad = await recorder.next();
      assert.ok('error' in bad && bad.error.startsWith(`${path}:1:`), JSON.stringify(bad));
      // Touching the same bad version, then a good one: only the good one is news.
      await replace(path, 'workloads: 3');
      await replace(path, meshOf('three'));
      assert.deepEqual(await recorder.next(), { mesh: 'three' });
      assert.equal(recorder.waiting, 0);
    } finally {
      source.stop();
    }
  }));

test('writing in place is seen too', () =>
  withDirectory(async directory => {
    const path = join(directory, 'mesh.yaml');
    await writeFile(path, meshOf('one'));
    const recorder = new Recorder();
    const source = new FileSource(recorder, { path, debounceMs: 5 });
    await source.start();
    try {
      await writeFile(path, meshOf('two'));
      assert.deepEqual(await recorder.next(), { mesh: 'two' });
    } finally {
      source.stop();
    }
  }));

test('a swapped symlink, as Kubernetes does it, is seen', () =>
  withDirectory(async directory => {
    for (const version of ['v1', 'v2']) {
      await mkdir(join(directory, version));
      await writeFile(join(directory, version, 'mesh.yaml'), meshOf(version));
    }
    await symlink('v1', join(directory, '..data'));
    await symlink('..data/mesh.yaml', join(directory, 'mesh.yaml'));
    const recorder = new Recorder();
    const source = new FileSource(recorder, { path: join(directory, 'mesh.yaml'), debounceMs: 5 });
    assert.equal((await source.start()).workloads[0]?.uid, 'v1');
    try {
      await symlink('v2', join(directory, '..data_tmp'));
      await rename(join(directory, '..data_tmp'), join(directory, '..data'));
      assert.deepEqual(await recorder.next(), { mesh: 'v2' });
    } finally {
      source.stop();
    }
  }));

test('a directory that vanishes is reported once and found again', () =>
  withDirectory(async directory => {
    const inner = join(directory, 'inner');
    const path = join(inner, 'mesh.yaml');
    await mkdir(inner);
    await writeFile(path, meshOf('one'));
    const recorder = new Recorder();
    const source = new FileSource(recorder, { path, debounceMs: 5, retryMs: 10 });
    await source.start();
    try {
      await rm(inner, { recursive: true });
      const gone = await recorder.next();
      assert.ok('error' in gone && gone.error.includes('ENOENT'), JSON.stringify(gone));
      await mkdir(inner);
      await writeFile(`${directory}/x`, meshOf('two'));
      await rename(`${directory}/x`, path);
      assert.deepEqual(await recorder.next(), { mesh: 'two' });
    } finally {
      source.stop();
    }
  }));

test('a first version that cannot be read is an error at start', () =>
  withDirectory(async directory => {
    const recorder = new Recorder();
    const missing = new FileSource(recorder, { path: join(directory, 'none.yaml') });
    await assert.rejects(missing.start(), { code: 'config.invalid', message: /cannot read .*ENOENT/ });
    await writeFile(join(directory, 'bad.yaml'), '[');
    await assert.rejects(new FileSource(recorder, { path: join(directory, 'bad.yaml') }).start(), {
      code: 'config.invalid',
    });
  }));

test('reading in the helper process gives the same mesh and the same errors', async () => {
  const text = meshOf('one');
  assert.deepEqual(await readLocalConfigRemotely(text, 'f'), readLocalConfig(text, 'f'));
  await assert.rejects(readLocalConfigRemotely('x: 1', 'f'), {
    code: 'config.invalid',
    message: /^f:1:1: x: unknown key/,
  });
});
