import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rename, rm, stat, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { Log } from '@ambit/log';
import { formatRef, type KubeObject, type ObjectChange } from '../objects/types.ts';
import { createFileSource, type FileSource } from './file-source.ts';

const TIMEOUT = { timeout: 60_000 };

/** What the source has said so far, and a way to wait until it has said something. */
class Observer {
  readonly objects = new Map<string, KubeObject>();
  readonly batches: (readonly ObjectChange[])[] = [];
  readonly lines: string[] = [];
  #waiters: (() => void)[] = [];

  readonly sink = (changes: readonly ObjectChange[]): void => {
    this.batches.push(changes);
    for (const { ref, object } of changes) {
      if (object === undefined) assert.ok(this.objects.delete(formatRef(ref)), `${formatRef(ref)} was not there`);
      else this.objects.set(formatRef(ref), object);
    }
    this.#wake();
  };

  readonly log: Log = {
    debug: message => this.#note(message),
    info: message => this.#note(message),
    warn: message => this.#note(message),
    error: message => this.#note(message),
    scope: () => this.log,
  };

  get names(): string[] {
    return [...this.objects.keys()].sort();
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiters.push(resolve);
      await promise;
    }
  }

  /** The next line of the log with this beginning. */
  async line(beginning: string): Promise<void> {
    const from = this.lines.length;
    await this.until(() => this.lines.slice(from).some(line => line.startsWith(beginning)));
  }

  #note(message: string): void {
    this.lines.push(message);
    this.#wake();
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    // After the source has finished the step that it told about.
    setImmediate(() => waiters.forEach(waiter => waiter()));
  }
}

async function makeDirectory(t: TestContext, files: Readonly<Record<string, string>> = {}): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-files-'));
  t.after(async () => rm(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(directory, name, '..'), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}

async function follow(t: TestContext, ...paths: string[]): Promise<{ source: FileSource; seen: Observer }> {
  const seen = new Observer();
  const source = createFileSource({ paths, log: seen.log, debounceMs: 10 });
  t.after(async () => source.close());
  await source.start(seen.sink);
  return { source, seen };
}

function account(name: string, label = 'x'): string {
  return `apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: ${name}, namespace: shop, labels: {l: ${label}}}\n---\n`;
}

const BROKEN = 'apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: [\n';

test('the first state is one batch: files of a tree, hidden ones and other names not', TIMEOUT, async t => {
  const directory = await makeDirectory(t, {
    'a.yaml': account('a'),
    'deep/er/b.yml': account('b'),
    'c.json': '{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "c", "namespace": "shop"}}',
    '.hidden.yaml': account('hidden'),
    '.git/d.yaml': account('git'),
    'README.md': account('readme'),
  });
  const { source, seen } = await follow(t, directory);
  assert.deepEqual(seen.names, ['ServiceAccount/shop/a', 'ServiceAccount/shop/b', 'ServiceAccount/shop/c']);
  assert.equal(seen.batches.length, 1);
  assert.deepEqual(source.status, { name: `files ${directory}`, isSynced: true, problems: [] });
});

test('an edit, a new file, a new directory and a removal are changes, and nothing else is', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a') + account('a2'), 'b.yaml': account('b') });
  const { seen } = await follow(t, directory);

  await writeFile(join(directory, 'a.yaml'), account('a', 'y') + account('a2'));
  await seen.until(() => seen.batches.length === 2);
  assert.deepEqual(
    seen.batches[1]?.map(({ ref }) => ref.name),
    ['a'],
  );
  assert.equal(seen.objects.get('ServiceAccount/shop/a')?.metadata.labels['l'], 'y');

  await mkdir(join(directory, 'sub'));
  await writeFile(join(directory, 'sub', 'c.yaml'), account('c'));
  await seen.until(() => seen.objects.has('ServiceAccount/shop/c'));
  await writeFile(join(directory, 'sub', 'd.yaml'), account('d'));
  await seen.until(() => seen.objects.has('ServiceAccount/shop/d'));

  await unlink(join(directory, 'b.yaml'));
  await rm(join(directory, 'sub'), { recursive: true });
  await seen.until(() => seen.objects.size === 2);
  assert.deepEqual(seen.names, ['ServiceAccount/shop/a', 'ServiceAccount/shop/a2']);
});

test('a save that says the same is no change', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a') });
  const { seen } = await follow(t, directory);
  const told = seen.line('Files say');
  await writeFile(join(directory, 'a.yaml'), `# a comment\n${account('a')}`);
  await told;
  assert.equal(seen.batches.length, 1);
});

test('a rename over a file is seen, and so is a write that keeps size and time', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a', 'v1') });
  const path = join(directory, 'a.yaml');
  const { seen } = await follow(t, directory);
  const label = () => seen.objects.get('ServiceAccount/shop/a')?.metadata.labels['l'];

  await writeFile(join(directory, '.a.yaml.tmp'), account('a', 'v2'));
  await rename(join(directory, '.a.yaml.tmp'), path);
  await seen.until(() => label() === 'v2');

  const { atime, mtime } = await stat(path);
  await writeFile(path, account('a', 'v3'));
  await utimes(path, atime, mtime);
  await seen.until(() => label() === 'v3');
});

test('a broken file keeps its last good state as a whole until it is right again', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a') + account('b'), 'z.yaml': account('z') });
  const path = join(directory, 'a.yaml');
  const { source, seen } = await follow(t, directory);

  const warned = seen.line('A file cannot be used');
  // The first document is good and different, the second is gone, the third is broken.
  await writeFile(path, account('a', 'new') + BROKEN);
  await warned;
  assert.equal(seen.batches.length, 1);
  const [problem] = source.status.problems;
  assert.deepEqual([problem?.code, problem?.place?.file, problem?.place?.line], ['config.yaml_syntax', path, 9]);

  await writeFile(path, account('a', 'newer'));
  await seen.until(() => seen.batches.length === 2);
  assert.deepEqual(source.status.problems, []);
  assert.equal(seen.objects.get('ServiceAccount/shop/a')?.metadata.labels['l'], 'newer');
  assert.deepEqual(seen.names, ['ServiceAccount/shop/a', 'ServiceAccount/shop/z']);
});

test('a file that is broken at the start gives nothing, and the start goes on', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a') + BROKEN, 'b.yaml': account('b') });
  const { source, seen } = await follow(t, directory);
  assert.deepEqual(seen.names, ['ServiceAccount/shop/b']);
  assert.deepEqual(
    source.status.problems.map(({ code }) => code),
    ['config.yaml_syntax'],
  );
  await writeFile(join(directory, 'a.yaml'), account('a'));
  await seen.until(() => seen.objects.has('ServiceAccount/shop/a'));
});

test('a file that was emptied keeps its objects, one that is removed does not', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a') });
  const { source, seen } = await follow(t, join(directory, 'a.yaml'));
  const warned = seen.line('A file cannot be used');
  await writeFile(join(directory, 'a.yaml'), '');
  await warned;
  assert.equal(source.status.problems[0]?.code, 'config.emptied');
  assert.equal(seen.objects.size, 1);
  await unlink(join(directory, 'a.yaml'));
  await seen.until(() => seen.objects.size === 0);
  assert.equal(source.status.problems[0]?.code, 'config.no_such_path');
  await writeFile(join(directory, 'a.yaml'), account('a'));
  await seen.until(() => seen.objects.size === 1);
  assert.deepEqual(source.status.problems, []);
});

test('a directory that is away as a whole keeps its objects, and is followed when it is back', TIMEOUT, async t => {
  const parent = await makeDirectory(t, { 'mesh/a.yaml': account('a'), 'other/b.yaml': account('b') });
  const mesh = join(parent, 'mesh');
  const { source, seen } = await follow(t, `${parent}/./mesh/`);
  const looked = seen.line('Files say');
  await rename(mesh, join(parent, 'away'));
  await looked;
  assert.deepEqual(
    source.status.problems.map(({ code }) => code),
    ['config.no_such_path'],
  );
  assert.deepEqual(seen.names, ['ServiceAccount/shop/a']);
  await rename(join(parent, 'other'), mesh);
  await seen.until(() => seen.objects.has('ServiceAccount/shop/b'));
  assert.deepEqual(seen.names, ['ServiceAccount/shop/b']);
  await writeFile(join(mesh, 'c.yaml'), account('c'));
  await seen.until(() => seen.objects.has('ServiceAccount/shop/c'));
});

test('the swap of a mounted ConfigMap is followed', TIMEOUT, async t => {
  const directory = await makeDirectory(t, {
    '..1/mesh.yaml': account('a', 'v1'),
    '..2/mesh.yaml': account('a', 'v2'),
  });
  await symlink('..1', join(directory, '..data'));
  await symlink('..data/mesh.yaml', join(directory, 'mesh.yaml'));
  for (const path of [directory, join(directory, 'mesh.yaml')]) {
    const { seen } = await follow(t, path);
    assert.deepEqual(seen.names, ['ServiceAccount/shop/a']);
    for (const version of ['2', '1']) {
      await symlink(`..${version}`, join(directory, '..data_tmp'));
      await rename(join(directory, '..data_tmp'), join(directory, '..data'));
      await seen.until(() => seen.objects.get('ServiceAccount/shop/a')?.metadata.labels['l'] === `v${version}`);
    }
  }
});

test('of one name in two files the first counts, and the second takes over when it goes', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a', 'first'), 'b.yaml': account('a', 'second') });
  const { source, seen } = await follow(t, directory);
  const label = () => seen.objects.get('ServiceAccount/shop/a')?.metadata.labels['l'];
  assert.equal(label(), 'first');
  const [problem] = source.status.problems;
  assert.equal(problem?.code, 'config.duplicate');
  assert.equal(problem?.place?.file, join(directory, 'b.yaml'));
  assert.match(problem?.message ?? '', /a\.yaml:1:1/);
  await unlink(join(directory, 'a.yaml'));
  await seen.until(() => label() === 'second');
  assert.deepEqual(source.status.problems, []);
});

test('places of objects and fields are found, also in lists, and only while the file is the same', TIMEOUT, async t => {
  const text = `${account('a')}
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: p, namespace: shop}
  spec:
    rules:
    - to:
      - operation: {ports: ["80"]}
`;
  const directory = await makeDirectory(t, { 'a.yaml': text });
  const file = join(directory, 'a.yaml');
  const { source, seen } = await follow(t, directory);
  const policy = { kind: 'AuthorizationPolicy', namespace: 'shop', name: 'p' } as const;
  const sa = { kind: 'ServiceAccount', namespace: 'shop', name: 'a' } as const;
  assert.deepEqual(source.placeOf(policy), { file, line: 10, column: 3 });
  assert.deepEqual(source.placeOf(policy, 'spec.rules[0].to[0].operation.ports[0]'), { file, line: 16, column: 29 });
  assert.deepEqual(source.placeOf(sa, 'metadata.labels["l"]'), { file, line: 3, column: 50 });
  assert.equal(source.placeOf({ ...policy, name: 'q' }), undefined);
  const warned = seen.line('A file cannot be used');
  await writeFile(file, `\n\n\n${BROKEN}`);
  await warned;
  assert.deepEqual(source.placeOf(policy, 'spec.rules'), { file, line: 10, column: 3 });
});

test('large files are read in a worker, with the same results', TIMEOUT, async t => {
  const text = Array.from({ length: 1200 }, (_, index) => account(`a${index}`)).join('');
  const directory = await makeDirectory(t, { 'a.yaml': text, 'b.yaml': BROKEN });
  assert.ok((await readFile(join(directory, 'a.yaml'))).length > 64 << 10);
  const { source, seen } = await follow(t, directory);
  const problems = source.status.problems.map(({ code, message, place }) => [code, message, place?.file]);
  assert.deepEqual(
    problems.map(([code, , file]) => [code, file]),
    [['config.yaml_syntax', join(directory, 'b.yaml')]],
    String(problems),
  );
  assert.equal(seen.objects.size, 1200);
  assert.equal(source.placeOf({ kind: 'ServiceAccount', namespace: 'shop', name: 'a1199' })?.line, 1199 * 4 + 1);
});

test('a path that is not there is refused at the start', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a') });
  const source = createFileSource({ paths: [directory, join(directory, 'nope')], log: new Observer().log });
  await assert.rejects(
    source.start(() => assert.fail('nothing is delivered')),
    { name: 'ControlError', code: 'config.no_such_path' },
  );
});

test('nothing is delivered after the close, and closing twice is fine', TIMEOUT, async t => {
  const directory = await makeDirectory(t, { 'a.yaml': account('a') });
  const { source, seen } = await follow(t, directory);
  await writeFile(join(directory, 'b.yaml'), account('b'));
  await source.close();
  await source.close();
  assert.equal(seen.batches.length, 1);
});

test('after any edits the objects are those of the files', TIMEOUT, async t => {
  const name = fc.constantFrom('a.yaml', 'b.json.yaml', 'sub/c.yaml', 'sub/deep/d.yaml');
  const edit = fc.oneof(
    fc.record({ kind: fc.constant('write' as const), name, label: fc.constantFrom('x', 'y', 'z') }),
    fc.record({ kind: fc.constant('rename' as const), name, to: name }),
    fc.record({ kind: fc.constantFrom('remove' as const, 'removeDirectory' as const), name }),
    fc.constant({ kind: 'pause' as const }),
  );
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(edit, { maxLength: 12 }), async edits => {
      const directory = await makeDirectory(t);
      const { source, seen } = await follow(t, directory);
      const files = new Map<string, string>();
      for (const each of edits) {
        if (each.kind === 'pause') {
          // Lets the source look at what is there in between.
          const looked = seen.batches.length + seen.lines.length;
          await writeFile(join(directory, 'pause.yaml'), account(`pause${++runs}`));
          await seen.until(() => seen.batches.length + seen.lines.length > looked);
          continue;
        }
        const path = join(directory, each.name);
        if (each.kind === 'write') {
          await mkdir(join(path, '..'), { recursive: true });
          await writeFile(path, account(accountOf(each.name), each.label));
          files.set(each.name, `ServiceAccount/shop/${accountOf(each.name)} ${each.label}`);
        } else if (each.kind === 'rename') {
          const content = files.get(each.name);
          if (content === undefined || each.name === each.to) continue;
          await mkdir(join(directory, each.to, '..'), { recursive: true });
          await rename(path, join(directory, each.to));
          files.delete(each.name);
          files.set(each.to, content);
        } else if (each.kind === 'remove') {
          await rm(path, { force: true });
          files.delete(each.name);
        } else if (each.name.includes('/')) {
          const [top = ''] = each.name.split('/');
          await rm(join(directory, top), { recursive: true, force: true });
          for (const other of files.keys()) if (other.startsWith(`${top}/`)) files.delete(other);
        }
      }
      const marker = `marker${++runs}`;
      // A new file: whoever lists it lists what is after all edits.
      await writeFile(join(directory, `${marker}.yaml`), account(marker));
      await seen.until(() => seen.objects.has(`ServiceAccount/shop/${marker}`));
      const found = [...seen.objects].map(([key, { metadata }]) => `${key} ${metadata.labels['l'] ?? ''}`);
      const rest = found.filter(text => !/\/(?:marker|pause)\d/.test(text));
      // Renaming makes twins, of which one counts.
      assert.deepEqual(rest.toSorted(), winnersOf(files).toSorted());
      await source.close();
    }),
    { seed: 20261126, numRuns: 25 },
  );
});

/** Of several files with one object the first by name. */
function winnersOf(files: ReadonlyMap<string, string>): string[] {
  const winners = new Map<string, string>();
  for (const [, content] of [...files].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const [key = ''] = content.split(' ');
    if (!winners.has(key)) winners.set(key, content);
  }
  return [...winners.values()];
}

function accountOf(file: string): string {
  return file.replaceAll('/', '.');
}
