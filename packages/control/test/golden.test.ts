// The whole translation against what upstream recorded: every resource, every field, nothing missing and nothing extra.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import {
  addressFromJson,
  addressToJson,
  authorizationFromJson,
  authorizationToJson,
  decodeAddressMessage,
  decodeAuthorizationMessage,
  type Json,
} from '@ambit/wire/resources';
import { MeshModel } from '../src/model/mesh-model.ts';
import type { XdsResource } from '../src/model/resource.ts';
import { readObjects } from '../src/objects/index.ts';
import { refOf } from '../src/objects/types.ts';
import { DEFAULT_SETTINGS } from '../src/settings.ts';

interface Recorded {
  readonly name: string;
  readonly resource: Json;
}

function read(path: string): string {
  return readFileSync(new URL(`golden/${path}`, import.meta.url), 'utf8');
}

function recorded(path: string): readonly Recorded[] {
  // Our own recorded file: its shape is known.
  return JSON.parse(read(path)) as readonly Recorded[];
}

function modelOf(folder: string): MeshModel {
  const { objects, diagnostics } = readObjects(read(`${folder}/input/all.yaml`), 'all.yaml');
  assert.deepEqual(
    diagnostics.filter(({ severity }) => severity === 'error'),
    [],
  );
  const model = new MeshModel(DEFAULT_SETTINGS);
  model.apply(objects.map(({ object }) => ({ ref: refOf(object), object })));
  return model;
}

function sorted(entries: readonly (readonly [string, Json])[]): Record<string, Json> {
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : Number(a > b))));
}

/** Both sides go through the same JSON writer, so only content can differ; the order of lists is content. */
function compareAddresses(model: MeshModel, path: string): void {
  const expected = recorded(path).map(
    ({ name, resource }) => [name, addressToJson(addressFromJson(resource))] as const,
  );
  const actual = [...model.addresses()].map(one => [one.name, addressToJson(decodeAddressMessage(one.value))] as const);
  assert.deepEqual(sorted(actual), sorted(expected));
}

function compareAuthorizations(model: MeshModel, path: string): void {
  const expected = recorded(path).map(
    ({ name, resource }) => [name, authorizationToJson(authorizationFromJson(resource))] as const,
  );
  const actual = [...model.authorizations()].map(
    one => [one.name, authorizationToJson(decodeAuthorizationMessage(one.value))] as const,
  );
  assert.deepEqual(sorted(actual), sorted(expected));
}

function aliasesIn(model: MeshModel): Record<string, readonly string[]> {
  const entries = [...model.addresses()].map(({ name, aliases }: XdsResource) => [name, aliases] as const);
  return Object.fromEntries(entries.filter(([, aliases]) => aliases.length > 0));
}

describe('the translation of recorded inputs', () => {
  it('agrees with upstream on every address of 01-basic', () => {
    compareAddresses(modelOf('01-basic'), '01-basic/addresses.json');
  });

  it('agrees with upstream on every address of 02-policies', () => {
    compareAddresses(modelOf('02-policies'), '02-policies/addresses.json');
  });

  it('agrees with upstream on every policy of 02-policies', () => {
    const model = modelOf('02-policies');
    compareAuthorizations(model, '02-policies/authorizations.json');
  });

  it('has no policies in 01-basic', () => {
    assert.deepEqual([...modelOf('01-basic').authorizations()], []);
  });

  it('names every address of a resource, and no other, as an alias', () => {
    assert.deepEqual(aliasesIn(modelOf('01-basic')), {
      'Kubernetes//Pod/plain/db-0': ['/10.1.1.20'],
      'Kubernetes//Pod/shop/cart-1': ['/10.1.0.11'],
      'Kubernetes//Pod/shop/cart-2': ['/10.1.1.12'],
      'Kubernetes//Pod/shop/host-1': ['/172.18.0.2'],
      'Kubernetes//Pod/shop/none-1': ['/10.1.0.15'],
      'Kubernetes//Pod/shop/sidecar-1': ['/10.1.1.16'],
      'Kubernetes//Pod/shop/slow-1': ['/10.1.1.14'],
      'Kubernetes//Pod/shop/web-6d5f7c9b8-abcde': ['/10.1.0.13', '/2001:db8::13'],
      'plain/db.plain.svc.cluster.local': ['/10.96.0.20'],
      'shop/cart.shop.svc.cluster.local': ['/10.96.0.11'],
      'shop/host.shop.svc.cluster.local': ['/10.96.0.15'],
      'shop/noports.shop.svc.cluster.local': ['/10.96.0.16'],
      'shop/slow.shop.svc.cluster.local': ['/10.96.0.14'],
      'shop/web.shop.svc.cluster.local': ['/10.96.0.13', '/2001:db8:1::13'],
    });
  });
});
