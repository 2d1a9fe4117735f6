// Redis itself, with redis-benchmark and redis-cli as clients: what the reader counts is what the server counts.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { findProgram, type ForeignServer, startRedis } from '../../test/foreign-server.ts';
import { countsOf } from '../../test/l7-recorder.ts';
import { L7Relay } from '../../test/l7-relay.ts';
import { RedisReader } from './redis.ts';

const run = promisify(execFile);
const redis = findProgram('/usr/bin/redis-server');
const skip = redis === undefined && 'no Redis: apt-get install redis-server';
const REQUESTS = 20_000;

describe('Redis', { skip }, () => {
  let server: ForeignServer;
  before(async () => {
    server = await startRedis(redis ?? '');
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
  });

  test('every command that redis-benchmark sends is told once, pipelined or not', async () => {
    for (const depth of ['1', '16']) {
      await ask(server.port, 'CONFIG', 'RESETSTAT');
      await using relay = await L7Relay.start(server.port, listener => new RedisReader(listener));
      const tests = 'ping_inline,ping_mbulk,set,get,lpush,lrange_100,mset';
      const args = ['-q', '-n', String(REQUESTS / 10), '-c', '8', '-P', depth, '-d', '1000', '-t', tests];
      await run('redis-benchmark', ['-h', '127.0.0.1', '-p', String(relay.port), ...args], { maxBuffer: 64 << 20 });
      const counts = countsOf(relay.recorders);
      assert.deepEqual(counts, await commandsOf(server.port));
      assert.equal(counts.PING, (2 * REQUESTS) / 10);
      assert.deepEqual(givenUp(relay), []);
    }
  });

  test('a long run of pipelined commands is counted to the last', async () => {
    await ask(server.port, 'CONFIG', 'RESETSTAT');
    await using relay = await L7Relay.start(server.port, listener => new RedisReader(listener));
    const args = ['-q', '-n', String(REQUESTS), '-c', '4', '-P', '16', '-t', 'set,get'];
    await run('redis-benchmark', ['-h', '127.0.0.1', '-p', String(relay.port), ...args], { maxBuffer: 64 << 20 });
    const counts = countsOf(relay.recorders);
    assert.deepEqual(counts, await commandsOf(server.port));
    assert.equal(counts.SET, REQUESTS);
    assert.equal(counts.GET, REQUESTS);
  });

  test('errors, large values, transactions, scripts and RESP3 are told as they are', async () => {
    await using relay = await L7Relay.start(server.port, listener => new RedisReader(listener));
    await ask(relay.port, 'SET', 'large', 'x'.repeat(100_000));
    assert.equal((await ask(relay.port, 'GET', 'large')).length, 100_001);
    await ask(relay.port, 'LPUSH', 'large', '1');
    await ask(relay.port, 'EVAL', 'return redis.error_reply("MINE special")', '0');
    await ask(relay.port, '-3', 'HGETALL', 'none');
    assert.deepEqual(
      relay.recorders.flatMap(({ requests }) => requests).map(({ method, error }) => [method, error]),
      [
        ['SET', undefined],
        ['GET', undefined],
        ['LPUSH', 'WRONGTYPE'],
        ['EVAL', 'OTHER'],
        ['HELLO', undefined],
        ['HGETALL', undefined],
      ],
    );
    assert.deepEqual(givenUp(relay), []);
    assert.ok(relay.skippedBytes > 0);
  });

  test('a subscriber is left alone', async () => {
    await using relay = await L7Relay.start(server.port, listener => new RedisReader(listener));
    const subscriber = run('redis-cli', ['-h', '127.0.0.1', '-p', String(relay.port), 'SUBSCRIBE', 'news']);
    const told = new Promise(resolve => subscriber.child.stdout?.once('data', resolve));
    await told;
    subscriber.child.kill();
    await assert.rejects(subscriber);
    assert.deepEqual(givenUp(relay), ['upgraded']);
  });
});

async function ask(port: number, ...args: readonly string[]): Promise<string> {
  const { stdout } = await run('redis-cli', ['-h', '127.0.0.1', '-p', String(port), ...args]);
  return stdout;
}

// What the server has carried out since its statistics were reset, without the resetting. Subcommands are their commands.
async function commandsOf(port: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const [, name = '', calls] of (await ask(port, 'INFO', 'commandstats')).matchAll(
    /^cmdstat_([^:|]+)[^:]*:calls=(\d+)/gm,
  )) {
    const method = name.toUpperCase();
    counts[method] = (counts[method] ?? 0) + Number(calls);
  }
  if (counts.CONFIG !== undefined) counts.CONFIG -= 1;
  if (counts.CONFIG === 0) delete counts.CONFIG;
  return counts;
}

function givenUp(relay: L7Relay): string[] {
  return relay.recorders.flatMap(recorder => recorder.givenUp);
}
