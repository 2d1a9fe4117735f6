import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { createKubeClient } from '@ambit/kube';
import { createTokenReviewer, type TokenReviewerOptions } from '../../src/kubernetes/token-reviewer.ts';
import { SILENT_LOG } from '@ambit/log';
import type { AuthOutcome } from '../../src/auth/caller.ts';
import type { ApiServer, ReviewedToken } from '../../../kube/test/api-server.ts';
import { startServer, temporaryDirectory } from '../../../kube/test/serving.ts';

const ZTUNNEL: ReviewedToken = {
  username: 'system:serviceaccount:istio-system:ztunnel',
  groups: ['system:serviceaccounts', 'system:serviceaccounts:istio-system', 'system:authenticated'],
  audiences: ['istio-ca'],
  extra: {
    'authentication.kubernetes.io/pod-name': ['ztunnel-x'],
    'authentication.kubernetes.io/pod-uid': ['uid-1'],
    'authentication.kubernetes.io/node-name': ['n1'],
  },
};

type Ask = (token: string | undefined, clusterId?: string, peer?: string) => Promise<AuthOutcome>;

async function reviewer(
  t: TestContext,
  options: Partial<TokenReviewerOptions> = {},
): Promise<{ readonly server: ApiServer; readonly ask: Ask }> {
  const server = await startServer(t);
  const client = createKubeClient({ kubeconfig: server.writeKubeconfig(temporaryDirectory(t)) });
  t.after(() => client.close());
  const common = { client, trustDomain: 'cluster.local', clusterId: 'Kubernetes', log: SILENT_LOG };
  const authenticator = createTokenReviewer({ ...common, ...options });
  let port = 1;
  const ask: Ask = (token, clusterId, peer = `127.0.0.1:${port++}`) => {
    const authorization = token === undefined ? undefined : `Bearer ${token}`;
    return authenticator.authenticate({ authorization, clusterId, certificate: undefined, peer });
  };
  return { server, ask };
}

const codeOf = (outcome: AuthOutcome): string => (outcome.kind === 'refused' ? outcome.code : 'let in');

describe('token reviewer', { timeout: 15_000 }, () => {
  test('proves identity, pod and node', async t => {
    const { server, ask } = await reviewer(t);
    server.tokens.set('good', ZTUNNEL);
    assert.deepEqual(await ask('good', 'Kubernetes'), {
      kind: 'caller',
      caller: {
        identity: { trustDomain: 'cluster.local', namespace: 'istio-system', serviceAccount: 'ztunnel' },
        via: 'kubernetes',
        node: 'n1',
        pod: { name: 'ztunnel-x', uid: 'uid-1' },
      },
    });
  });

  test('an unbound token, or one with two values, says nothing about pod and node', async t => {
    const { server, ask } = await reviewer(t);
    const two = { 'authentication.kubernetes.io/node-name': ['n1', 'n2'] };
    server.tokens.set('unbound', { ...ZTUNNEL, extra: two });
    const outcome = await ask('unbound');
    assert.ok(outcome.kind === 'caller');
    assert.equal(outcome.caller.node, undefined);
    assert.equal(outcome.caller.pod, undefined);
  });

  for (const [what, token, code] of [
    ['an unknown token', undefined, 'auth.bad_token'],
    ['a token for another audience', { ...ZTUNNEL, audiences: ['api'] }, 'auth.bad_token'],
    ['a user', { ...ZTUNNEL, username: 'jane' }, 'auth.not_service_account'],
    ['a name with too many parts', { ...ZTUNNEL, username: `${ZTUNNEL.username}:x` }, 'auth.not_service_account'],
    [
      'a name that breaks out of a path',
      { ...ZTUNNEL, username: 'system:serviceaccount:a:b/c' },
      'auth.not_service_account',
    ],
    ['somebody outside the group', { ...ZTUNNEL, groups: ['system:authenticated'] }, 'auth.not_service_account'],
  ] as const) {
    test(`refuses ${what}`, async t => {
      const { server, ask } = await reviewer(t);
      if (token !== undefined) server.tokens.set('t', token);
      assert.equal(codeOf(await ask('t')), code);
    });
  }

  test('refuses the word of a server that does not know audiences', async t => {
    const { server, ask } = await reviewer(t);
    server.tokens.set('t', ZTUNNEL);
    server.faults.ignoresAudiences = true;
    assert.equal(codeOf(await ask('t')), 'auth.bad_audience');
  });

  test('asks nobody when there is no token, an endless one, or another cluster is named', async t => {
    const { server, ask } = await reviewer(t);
    assert.equal(codeOf(await ask(undefined)), 'auth.none');
    assert.equal(codeOf(await ask('x'.repeat(20_000))), 'auth.bad_token');
    assert.equal(codeOf(await ask('good', 'elsewhere')), 'auth.unknown_cluster');
    assert.equal(server.requests.length, 0);
  });

  test('lets nobody in while the API server cannot say, and remembers nothing of it', async t => {
    const { server, ask } = await reviewer(t);
    server.tokens.set('good', ZTUNNEL);
    server.faults.fail = () => 500;
    assert.equal(codeOf(await ask('good')), 'auth.unavailable');
    server.faults.fail = undefined;
    server.faults.forbid = () => true;
    assert.equal(codeOf(await ask('good')), 'auth.unavailable');
    server.faults.forbid = undefined;
    assert.equal(codeOf(await ask('good')), 'let in');
    await server.close();
    assert.equal(codeOf(await ask('other')), 'auth.unavailable');
  });

  test('remembers a verdict for a minute at most, and asks once for simultaneous callers', async t => {
    let nowMs = 1_000_000;
    const { server, ask } = await reviewer(t, { now: () => nowMs, cacheMs: 3_600_000 });
    server.tokens.set('good', ZTUNNEL);
    await Promise.all([ask('good'), ask('good'), ask('good')]);
    assert.equal(server.requests.length, 1);
    server.tokens.delete('good');
    nowMs += 59_999;
    assert.equal(codeOf(await ask('good')), 'let in');
    nowMs += 1;
    assert.equal(codeOf(await ask('good')), 'auth.bad_token');
  });

  test('a token is not remembered beyond its own expiry', async t => {
    let nowMs = 1_000_000;
    const { server, ask } = await reviewer(t, { now: () => nowMs });
    const claims = Buffer.from(JSON.stringify({ exp: 1005 })).toString('base64url');
    server.tokens.set(`h.${claims}.s`, ZTUNNEL);
    await ask(`h.${claims}.s`);
    nowMs += 5000;
    await ask(`h.${claims}.s`);
    assert.equal(server.requests.length, 2);
  });

  test('remembers a bounded number of verdicts and runs a bounded number of reviews', async t => {
    const { server, ask } = await reviewer(t, { maxEntries: 2, maxPending: 2 });
    for (const token of ['a', 'b', 'c', 'a']) await ask(token);
    assert.equal(server.requests.length, 4);
    const codes = (await Promise.all(['d', 'e', 'f'].map(token => ask(token)))).map(codeOf);
    assert.deepEqual(codes, ['auth.bad_token', 'auth.bad_token', 'auth.unavailable']);
  });

  test('a stranger with ever new tokens takes neither the places nor the memory of others', async t => {
    const { server, ask } = await reviewer(t, { maxEntries: 2, maxPendingOfPeer: 2 });
    server.tokens.set('good', ZTUNNEL);
    assert.equal(codeOf(await ask('good')), 'let in');
    const flood = ['a', 'b', 'c', 'd'].map(async token => ask(token));
    server.tokens.set('other', ZTUNNEL);
    const other = ask('other', undefined, '10.0.0.2:7');
    assert.deepEqual((await Promise.all(flood)).map(codeOf), [
      'auth.bad_token',
      'auth.bad_token',
      'auth.unavailable',
      'auth.unavailable',
    ]);
    assert.equal(codeOf(await other), 'let in');
    for (const token of ['e', 'f', 'g', 'h']) await ask(token);
    const asked = server.requests.length;
    assert.equal(codeOf(await ask('good')), 'let in');
    assert.equal(server.requests.length, asked, 'it was remembered through the flood');
  });
});
