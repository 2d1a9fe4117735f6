import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { PLAIN } from '../render/style.ts';
import { audit, type AuditFlags, type AuditScreen } from './audit.ts';

describe('ambit audit', () => {
  let directory: string;
  let socket: string;
  const heard: string[] = [];
  let answer: { status: number; json: object };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      heard.push(`${request.method} ${request.url} ${body}`);
      response.writeHead(answer.status).end(JSON.stringify(answer.json));
    });
  });
  const report = { node: 'n1', clean: true, repairs: true, ztunnels: 1, hasCanary: true, lastRun: null, pods: [] };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'ambit-audit-'));
    socket = join(directory, 'agent.sock');
    server.listen(socket);
    await once(server, 'listening');
  });
  after(async () => {
    server.close();
    await rm(directory, { recursive: true });
  });

  async function run(flags: Partial<AuditFlags> = {}): Promise<{ status: number; out: string; remarks: string }> {
    let [out, remarks] = ['', ''];
    const output = {
      style: PLAIN,
      answer: (text: string) => void (out += text),
      remark: (text: string) => void (remarks += text),
    };
    const screen: AuditScreen = { output, isTerminal: false, width: 80 };
    const status = await audit({ output: 'table', repair: true, socket, ...flags }, screen);
    return { status, out, remarks };
  }

  test('ends with 0 when nothing was found, and with 1 when something was', async () => {
    answer = { status: 200, json: { ...report, findings: [] } };
    assert.deepEqual(await run(), { status: 0, out: '\nn1: 0 pods, no finding · not looked yet\n', remarks: '' });
    const finding = { code: 'audit.ztunnel_down', pod: 'node', uid: null, what: 'w', remedy: 'r', repaired: false };
    answer = { status: 200, json: { ...report, clean: false, findings: [finding] } };
    const { status, out } = await run({ output: 'json', repair: false });
    assert.equal(status, 1);
    assert.deepEqual(JSON.parse(out), answer.json);
    assert.deepEqual(heard, ['POST /v1/audit {}', 'POST /v1/audit {"repair":false}']);
  });

  test('ends with 3 when no agent answers, refuses, or is that of another node', async () => {
    answer = { status: 200, json: { ...report, findings: [] } };
    const elsewhere = await run({ node: 'n2' });
    assert.equal(elsewhere.status, 3);
    assert.match(elsewhere.remarks, /agent here is that of node n1, not of n2 {2}\[cni.agent_unreachable\]/);
    answer = { status: 404, json: { code: 'admin.not_found', message: 'no such path' } };
    assert.equal((await run()).status, 3);
    const nobody = await run({ socket: join(directory, 'other.sock') });
    assert.equal(nobody.status, 3);
    assert.match(nobody.remarks, /^error: the agent of this node does not answer at .*ENOENT/);
    assert.match(nobody.remarks, /\n {2}next {4}run it on the node/);
  });
});
