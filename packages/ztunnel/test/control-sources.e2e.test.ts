// What is written into the files of a mesh while it runs, at its worst: rewritten in a frenzy and broken half of the time,
// thousands of policies at once, policies that cannot be read. The last good state is in force at all times.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type ControlProcess, type Pod, sandboxSkip, type Testbed, type WatchedProcess } from '@ambit/testbed';
import {
  ECHO,
  Load,
  makeBed,
  policyYaml,
  serveEcho,
  startControl,
  synczOf,
  until,
  untilSynced,
} from './control-mesh.ts';
import { startOurs } from './e2e-mesh.ts';
import { Net, tryEcho } from './e2e-net.ts';

const CLOSED = 7001;
const ALSO_CLOSED = 7002;
const WRITES = 200;
const FRENZY_MS = 5000;
const MANY = 5000;

describe('files of a mesh', { skip: sandboxSkip() }, () => {
  const closers = new AsyncDisposableStack();
  let bed: Testbed;
  let peers: Net;
  let control: ControlProcess;
  let programs: readonly WatchedProcess[];
  let web: Pod;
  let cart: Pod;
  let near: Pod;

  before(async () => {
    peers = closers.use(new Net());
    bed = closers.use(await makeBed());
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    near = await bed.addPod({ node: 'n1', name: 'near', namespace: 'shop', serviceAccount: 'near' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    for (const port of [ECHO, CLOSED, ALSO_CLOSED]) serveEcho(peers, cart, port);
    control = await startControl(bed);
    programs = [control, ...(await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]))];
    await untilSynced(control);
  });

  after(async () => closers.disposeAsync());

  async function reaches(from: Pod, port: number): Promise<boolean> {
    return (await tryEcho(peers, from, cart.ip4, port)) === 'ok';
  }

  /** Seconds of processor time of each program so far, said of a test. */
  async function used(t: TestContext, when: string): Promise<readonly number[]> {
    const seconds = await Promise.all(programs.map(processorSeconds));
    t.diagnostic(`${when}: ${programs.map(({ title }, index) => `${title} ${seconds[index]} s`).join(', ')}`);
    return seconds;
  }

  test(`a file rewritten ${WRITES} times, often broken, ends as it was last good, and costs little`, async t => {
    const path = join(bed.objectsDirectory, 'flapping.yaml');
    const load = new Load(peers, web, [cart.ip4, ECHO], { kept: 1, fresh: 1, pauseMs: 20 });
    const first = await synczOf(control);
    const start = await used(t, 'before');
    for (let turn = 0; turn < WRITES; turn++) {
      const good = deny('flapping', turn % 2 === 0 ? CLOSED : ALSO_CLOSED);
      // Not beside and renamed: who reads while it is written sees half of it.
      await writeFile(path, turn % 3 === 0 ? good.slice(0, good.length / 2) : good);
      await delay(FRENZY_MS / WRITES);
    }
    await writeFile(path, deny('flapping', CLOSED));
    await until(async () => !(await reaches(web, CLOSED)), 'the last version is in force');
    await writeFile(path, 'kind: [');
    await until(async () => (await problems()).length > 0, 'the broken file is reported');
    const now = await untilSynced(control);
    const [problem] = await problems();
    assert.equal(problem?.severity, 'error');
    assert.deepEqual({ ...problem?.place, column: 0 }, { file: path, line: 1, column: 0 });
    assert.equal(await reaches(web, CLOSED), false);
    assert.equal(await reaches(web, ALSO_CLOSED), true);
    assert.deepEqual((await load.stop()).failures, []);
    // A change waits until it is quiet, and at most a second.
    assert.ok(now.counters.pushes - first.counters.pushes < WRITES / 4, JSON.stringify(now.counters));
    const end = await used(t, 'after');
    for (const [index, { title }] of programs.entries()) {
      const cost = (end[index] ?? 0) - (start[index] ?? 0);
      assert.ok(cost < FRENZY_MS / 1000, `${title} took ${cost} s`);
    }
    await bed.writeObjects('flapping.yaml', '');
    await until(async () => reaches(web, CLOSED), 'the policy is gone with its file');
    assert.deepEqual(await problems(), []);
  });

  test(`${MANY} policies in one file are in force, those of one pod all of them`, async t => {
    const load = new Load(peers, web, [cart.ip4, ECHO], { kept: 1, fresh: 1, pauseMs: 20 });
    const allow = (name: string, account: string, port: number) =>
      policyYaml(name, 'shop', {
        selector: { matchLabels: { app: 'cart' } },
        rules: [
          {
            from: [{ source: { principals: [`cluster.local/ns/shop/sa/${account}`] } }],
            to: [{ operation: { ports: [String(port)] } }],
          },
        ],
      });
    const ofCart = [
      deny('cart-closed', CLOSED),
      allow('cart-web', 'web', ECHO),
      allow('cart-near', 'near', ALSO_CLOSED),
      allow('cart-web-closed', 'web', CLOSED),
    ];
    const others = Array.from({ length: MANY - ofCart.length }, (_, index) =>
      policyYaml(`many-${index}`, 'shop', {
        selector: { matchLabels: { app: `app-${index % 100}` } },
        rules: [{ from: [{ source: { principals: [`cluster.local/ns/shop/sa/account-${index}`] } }] }],
      }),
    );
    const { authorizations } = await synczOf(control);
    await bed.writeObjects('many.yaml', [...others, ...ofCart].join('---\n'));
    await until(
      async () => (await synczOf(control)).authorizations === authorizations + MANY,
      'all are served',
      30_000,
    );
    await untilSynced(control, 2, 30_000);
    await until(async () => !(await reaches(near, ECHO)), 'near is refused');
    const open = async (from: Pod): Promise<readonly boolean[]> =>
      Promise.all([ECHO, CLOSED, ALSO_CLOSED].map(async port => reaches(from, port)));
    assert.deepEqual(await open(web), [true, false, false]);
    assert.deepEqual(await open(near), [false, false, true]);
    await used(t, 'with all of them');
    assert.deepEqual((await load.stop()).failures, []);
    await bed.writeObjects('many.yaml', '');
    await until(async () => (await synczOf(control)).authorizations === authorizations, 'all are gone', 30_000);
    await until(async () => (await open(near)).every(Boolean), 'nobody is refused any more');
    for (const program of programs) assert.equal(program.isRunning, true);
  });

  async function problems(): Promise<readonly Problem[]> {
    const sources = (await control.page('/debug/sources')) as readonly { problems: readonly Problem[] }[];
    return sources.flatMap(source => source.problems);
  }
});

interface Problem {
  readonly severity: string;
  readonly place?: { readonly file: string; readonly line: number; readonly column: number };
}

function deny(name: string, port: number): string {
  return policyYaml(name, 'shop', { action: 'DENY', rules: [{ to: [{ operation: { ports: [String(port)] } }] }] });
}

/** Of all its threads, in user and kernel mode. proc_pid_stat(5), fields 14 and 15 in ticks of a hundredth. */
async function processorSeconds({ process: { pid } }: WatchedProcess): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
