// Workloads of this machine as processes and networks, with an agent's place taken by the test: it says when a workload
// is protected. The whole mesh is in up.e2e.test.ts.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import type { AgentPod } from '@ambit/cni';
import { SILENT_LOG } from '@ambit/log';
import { addVeth } from '@ambit/native';
import { SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import { localPaths } from '../src/directories.ts';
import type { LocalError } from '../src/errors.ts';
import { LocalServer } from '../src/local-server.ts';
import { etcOf } from '../src/leftovers.ts';
import { LocalWorkloads } from '../src/local-workloads.ts';
import { ensureHostNetwork, removeHostNetwork } from '../src/net/host-network.ts';
import { hasLink, hostInterfaceOf, removeLink } from '../src/net/workload-network.ts';
import { ObjectsFile } from '../src/objects-file.ts';
import { processesIn } from '../src/process-identity.ts';
import { launch, type Launched } from '../src/run/launch.ts';
import { askJson } from '../src/up/ask.ts';

const REQUEST = {
  namespace: 'shop',
  serviceAccount: 'default',
  isMember: true,
  version: undefined,
  publish: [],
  publisher: 'agent' as const,
  services: [],
  logPath: undefined,
};

function sh(command: string): string {
  const { stdout, stderr, status } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
  assert.equal(status, 0, `${command}: ${stderr}`);
  return stdout;
}

class Machine {
  readonly directory = mkdtempSync(join(SANDBOX_DIR, 'local-'));
  readonly paths = localPaths({ state: join(this.directory, 'state'), run: join(this.directory, 'run') });
  readonly enrolled: AgentPod[] = [];
  readonly gone: AgentPod[] = [];
  enrols = true;
  workloads!: LocalWorkloads;
  server!: LocalServer;

  async startAgent(): Promise<void> {
    const network = ensureHostNetwork(this.paths.network);
    const objects = new ObjectsFile(join(this.paths.runObjects, 'local.json'));
    const deps = { paths: this.paths, network, objects, log: SILENT_LOG };
    this.workloads = new LocalWorkloads(deps, {
      allowedUids: [0],
      clusterDomain: 'cluster.local',
      enrolTimeoutMs: 2_000,
    });
    await this.workloads.start({
      onPod: pod => {
        this.enrolled.push(pod);
        if (this.enrols) void this.workloads.setStatus(pod, 'enabled');
      },
      onPodGone: pod => this.gone.push(pod),
      onNamespace: () => undefined,
    });
    this.server = await LocalServer.open(
      { workloads: this.workloads, containers: () => [] },
      { path: this.paths.localSocket, uid: 0, log: SILENT_LOG },
    );
  }

  async stopAgent(): Promise<void> {
    this.server.close();
    await this.workloads.close();
  }

  async run(name: string, command: readonly string[], more: object = {}): Promise<Launched & { output: () => string }> {
    let said = '';
    const launched = await launch({
      request: { ...REQUEST, name, command, ...more },
      user: { kind: 'root' },
      env: process.env,
      etc: etcOf(this.paths, { namespace: 'shop', name }),
      ask: async (method, path, body) => askJson(this.paths.localSocket, method, path, body),
      output: chunk => (said += Buffer.from(chunk).toString('utf8')),
    });
    return { ...launched, output: () => said };
  }

  async close(): Promise<void> {
    try {
      await this.workloads.stopAll();
    } finally {
      await this.stopAgent();
    }
    removeHostNetwork(this.paths.network);
    rmSync(this.directory, { recursive: true });
  }
}

const OUTSIDE_IP = '192.0.2.2';

/** A network that the host has a way to and that knows nothing of workloads; a server there says whom it sees. */
class Outside implements AsyncDisposable {
  readonly hostIp = '192.0.2.1';
  readonly #server: ChildProcess;

  private constructor(server: ChildProcess) {
    this.#server = server;
  }

  static async open(): Promise<Outside> {
    sh('ip netns add out; ip link add up0 type veth peer name in0 netns out');
    sh('ip addr add 192.0.2.1/24 dev up0; ip link set up0 up');
    sh(`ip -n out addr add ${OUTSIDE_IP}/24 dev in0; ip -n out link set in0 up; ip -n out link set lo up`);
    const serve = `require('net').createServer(s => s.end(s.remoteAddress)).listen(9000, '0.0.0.0', () => console.log('up'))`;
    const server = spawn('ip', ['netns', 'exec', 'out', process.execPath, '-e', serve], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(server.stdout, 'data');
    return new Outside(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#server, 'exit');
    this.#server.kill('SIGKILL');
    await ended;
    sh('ip link del up0; ip netns del out');
  }
}

/** Waits for what the agent finds by looking. */
async function eventually(isTrue: () => boolean, what: string): Promise<void> {
  const deadline = AbortSignal.timeout(10_000);
  while (!isTrue()) {
    assert.ok(!deadline.aborted, what);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

describe('workloads of this machine', { skip: sandboxSkip(), concurrency: false }, () => {
  // What a machine is before and after: nothing of ours may be left.
  const before =
    sandboxSkip() === false ? sh('ip -br link; ip route; nft -s list ruleset; cat /proc/sys/net/ipv4/ip_forward') : '';
  after(() => {
    if (before !== '')
      assert.equal(sh('ip -br link; ip route; nft -s list ruleset; cat /proc/sys/net/ipv4/ip_forward'), before);
  });

  test('a command gets an address, names, a way out and its exit status, and nothing of it stays', async () => {
    const machine = new Machine();
    await machine.startAgent();
    await using outside = await Outside.open();
    try {
      const call = `require('net').connect(9000, '${OUTSIDE_IP}').on('data', d => console.log('seen as ' + d))`;
      const script = `ip -br addr show eth0; cat /etc/resolv.conf /etc/hosts; "${process.execPath}" -e "${call}"; exit 7`;
      const run = await machine.run('cart', ['sh', '-c', script]);
      assert.equal(run.workload.ip4, '10.62.0.2');
      assert.equal(await run.ended, 7);
      const said = run.output();
      for (const part of [
        '10.62.0.2/32',
        'fd00:62::2/128',
        'nameserver 10.62.0.1',
        'search shop.svc.cluster.local',
        '10.62.0.2 cart',
        `seen as ${outside.hostIp}`,
      ]) {
        assert.ok(said.includes(part), `${part} in:\n${said}`);
      }
      assert.doesNotMatch(readFileSync('/etc/resolv.conf', 'utf8'), /10\.62\.0\.1/, "the host's own file is untouched");
      await eventually(() => machine.gone.length === 1, 'the agent notices the end');
      assert.deepEqual(machine.workloads.list(), []);
      assert.equal(existsSync(`/sys/class/net/${run.workload.hostInterface}`), false);
      assert.doesNotMatch(readFileSync(join(machine.paths.runObjects, 'local.json'), 'utf8'), /"Pod"/);
    } finally {
      await machine.close();
    }
  });

  test('nothing of a member runs before it is protected, or when it cannot be', async () => {
    const machine = new Machine();
    await machine.startAgent();
    machine.enrols = false;
    const witness = join(machine.directory, 'ran');
    const links = sh('ip -br link');
    try {
      await assert.rejects(machine.run('late', ['touch', witness]), { code: 'local.not_enrolled' });
      assert.equal(existsSync(witness), false);
      assert.deepEqual(machine.workloads.list(), []);
      assert.equal(machine.gone.length, 1);
      assert.equal(sh('ip -br link'), links, 'its link is gone');
      const outsider = await machine.run('outsider', ['touch', witness], { isMember: false });
      assert.equal(await outsider.ended, 0);
      assert.equal(existsSync(witness), true);
    } finally {
      await machine.close();
    }
  });

  test('a link is removed while the kernel takes it away, and when it is gone already', async () => {
    const name = hostInterfaceOf(999);
    const rival = spawn('sh', ['-c', `echo up; while :; do ip link del ${name} 2>/dev/null; done`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await once(rival.stdout, 'data');
      for (let i = 0; i < 100; i++) {
        addVeth(name, 'rival0');
        removeLink(name);
        assert.equal(hasLink(name), false);
      }
    } finally {
      rival.kill('SIGKILL');
      await once(rival, 'close');
      removeLink(name);
    }
  });

  test('what cannot be cleared yet is cleared later, and its name is free again', async () => {
    const machine = new Machine();
    await machine.startAgent();
    try {
      const etc = etcOf(machine.paths, { namespace: 'shop', name: 'cart' });
      const run = await machine.run('cart', ['sleep', '100']);
      // A mount is what nobody may remove, root neither.
      sh(`mount -t tmpfs none ${etc}`);
      run.signal('SIGTERM');
      await run.ended;
      try {
        await assert.rejects(machine.workloads.stop('shop', 'cart', 0), /busy/);
        assert.equal(hasLink(run.workload.hostInterface), false, 'its link is gone all the same');
      } finally {
        sh(`umount ${etc}`);
      }
      await eventually(() => machine.workloads.list().length === 0, 'it is cleared');
      const next = await machine.run('cart', ['true']);
      assert.equal(await next.ended, 0);
    } finally {
      await machine.close();
    }
  });

  test('a name that runs is refused with a next step, a port that is taken too', async () => {
    const machine = new Machine();
    await machine.startAgent();
    try {
      const publish = [{ ip: '127.0.0.1', hostPort: 18_080, port: 80 }];
      const first = await machine.run('cart', ['sleep', '100'], { publish });
      await assert.rejects(machine.run('cart', ['true']), (error: LocalError) => {
        return error.code === 'local.name_taken' && error.next?.includes('--name') === true;
      });
      await assert.rejects(machine.run('other', ['true'], { publish }), { code: 'local.port_taken' });
      assert.deepEqual(
        machine.workloads.list().map(({ name }) => name),
        ['cart'],
      );
      first.signal('SIGTERM');
      assert.equal(await first.ended, 143);
    } finally {
      await machine.close();
    }
  });

  test('two workloads reach each other, and the host reaches a published port', async () => {
    const machine = new Machine();
    await machine.startAgent();
    try {
      const serve = `require('net').createServer(s => s.end('hello ' + s.remoteAddress)).listen(8080, '::', () => console.log('up'))`;
      const server = await machine.run('cart', [process.execPath, '-e', serve], {
        publish: [{ ip: '127.0.0.1', hostPort: 18_081, port: 8080 }],
      });
      await eventually(() => server.output().includes('up'), 'the server listens');
      const call = (host: string) =>
        `require('net').connect(8080, '${host}').on('data', d => console.log(String(d))).on('error', e => console.log(e.code))`;
      for (const host of [server.workload.ip4, server.workload.ip6 ?? '']) {
        const client = await machine.run('web', [process.execPath, '-e', call(host)]);
        assert.equal(await client.ended, 0);
        assert.match(client.output(), /^hello .*(10\.62\.0\.|fd00:62::)\d+\n$/);
        await eventually(() => machine.workloads.list().length === 1, 'web is gone');
      }
      const caller = connect(18_081, '127.0.0.1');
      assert.match(await text(caller), /^hello .*10\.62\.0\.1$/);
    } finally {
      await machine.close();
    }
  });

  test('workloads reach each other through a firewall that rejects what is forwarded by a rule', async () => {
    sh(`nft 'add table inet wall; add chain inet wall pass { type filter hook forward priority 10; policy accept; }'`);
    sh(`nft 'add rule inet wall pass ct state established,related accept'`);
    sh(`nft 'add rule inet wall pass counter reject with icmpx admin-prohibited'`);
    const wall = sh('nft -s list table inet wall');
    const machine = new Machine();
    await machine.startAgent();
    try {
      const serve = `require('net').createServer(s => s.end('hello')).listen(8080, '::', () => console.log('up'))`;
      const server = await machine.run('cart', [process.execPath, '-e', serve]);
      await eventually(() => server.output().includes('up'), 'the server listens');
      for (const host of [server.workload.ip4, server.workload.ip6 ?? '']) {
        const call = `require('net').connect(8080, '${host}').on('data', d => console.log(String(d))).on('error', e => console.log(e.code))`;
        const client = await machine.run('web', [process.execPath, '-e', call]);
        await client.ended;
        assert.equal(client.output(), 'hello\n');
        await eventually(() => machine.workloads.list().length === 1, 'web is gone');
      }
    } finally {
      await machine.close();
      assert.equal(sh('nft -s list table inet wall'), wall, 'its own rules only');
      sh('nft delete table inet wall');
    }
  });

  test('a workload outlives its agent, which knows it again; what was killed meanwhile is collected', async () => {
    const machine = new Machine();
    await machine.startAgent();
    try {
      const services = [{ name: 'shopfront', port: 80, targetPort: 8080 }];
      const kept = await machine.run('kept', ['sleep', '100'], { services });
      const killed = await machine.run('killed', ['sh', '-c', 'setsid sleep 100 & setsid sleep 100 & wait']);
      await eventually(() => processesIn(killed.workload.netnsName).length === 3, 'it has started them');
      const objects = readFileSync(join(machine.paths.runObjects, 'local.json'), 'utf8');
      await machine.stopAgent();
      process.kill(killed.pid, 'SIGKILL');
      await killed.ended;
      machine.enrolled.length = 0;
      await machine.startAgent();
      assert.deepEqual(
        machine.workloads.list().map(({ name, uid, ip4 }) => [name, uid, ip4]),
        [['kept', kept.workload.uid, kept.workload.ip4]],
      );
      assert.deepEqual(processesIn(killed.workload.netnsName), [], 'its children too');
      assert.match(objects, /10\.62\.240\.1/);
      assert.match(readFileSync(join(machine.paths.runObjects, 'local.json'), 'utf8'), /10\.62\.240\.1/);
      const next = await machine.run('next', ['true']);
      assert.equal(await next.ended, 0);
      assert.notEqual(next.workload.ip4, kept.workload.ip4);
    } finally {
      await machine.close();
    }
  });

  test('where the machine has IPv6 switched off for its links, workloads do without', async () => {
    const setting = '/proc/sys/net/ipv6/conf/default/disable_ipv6';
    const was = sh(`cat ${setting}`);
    sh(`echo 1 > ${setting}`);
    const machine = new Machine();
    await machine.startAgent();
    try {
      const run = await machine.run('cart', ['true']);
      assert.deepEqual([run.workload.ip4, run.workload.ip6, await run.ended], ['10.62.0.2', undefined, 0]);
    } finally {
      await machine.close();
      sh(`echo ${was.trim()} > ${setting}`);
    }
  });

  test("the host's own network, and a process of another user, are never taken for a workload", async () => {
    const machine = new Machine();
    await machine.startAgent();
    try {
      const request = { ...REQUEST, name: 'x', command: ['x'], pid: process.pid, runnerPid: process.pid };
      await assert.rejects(machine.workloads.create(request, 0), { code: 'local.foreign_network' });
      await assert.rejects(machine.workloads.create({ ...request, pid: 0x7ffffff0 }, 0), {
        code: 'local.workload_gone',
      });
      assert.deepEqual(machine.workloads.list(), []);
    } finally {
      await machine.close();
    }
  });
});
