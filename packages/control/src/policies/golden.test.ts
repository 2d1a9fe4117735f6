// Every policy of the recorded mesh, whole: what istiod's ambient mode makes of them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readObjects } from '../objects/index.ts';
import type { PeerAuthenticationObject } from '../objects/types.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { peerAuthenticationPolicies, policyResources } from './index.ts';
import { asJson } from './policy-fixture.ts';

const FOLDER = join(import.meta.dirname, '..', '..', 'test', 'golden', '02-policies');

interface Recorded {
  readonly name: string;
  readonly resource: unknown;
}

test('every recorded authorization is translated alike, and nothing else is', () => {
  const { objects } = readObjects(readFileSync(join(FOLDER, 'input', 'all.yaml'), 'utf8'), 'all.yaml');
  const actual = new Map<string, unknown>();
  const peers: PeerAuthenticationObject[] = [];
  for (const { object } of objects) {
    if (object.kind === 'PeerAuthentication') peers.push(object);
    if (object.kind !== 'AuthorizationPolicy') continue;
    const { authorization } = policyResources(object, DEFAULT_SETTINGS);
    if (authorization === undefined) continue;
    actual.set(`${object.metadata.namespace}/${object.metadata.name}`, asJson(authorization));
  }
  for (const { key, authorization } of peerAuthenticationPolicies(peers, DEFAULT_SETTINGS)) {
    actual.set(key, asJson(authorization));
  }
  // JSON of the repository's own recording.
  const recorded = JSON.parse(readFileSync(join(FOLDER, 'authorizations.json'), 'utf8')) as readonly Recorded[];
  const expected = new Map(recorded.map(({ name, resource }) => [name, resource]));
  assert.deepEqual([...actual.keys()].toSorted(), [...expected.keys()].toSorted());
  for (const [key, resource] of expected) assert.deepEqual(actual.get(key), resource, key);
});
