import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MAX_TEMPLATE_SEGMENTS, pathTemplate } from './path-template.ts';

const EXPECTED: Record<string, string> = {
  '': '',
  '*': '*',
  '/': '/',
  '//': '/',
  'no-slash': 'other',
  '/healthz': '/healthz',
  '/api/v1/users': '/api/v1/users',
  '/api/v1/users/': '/api/v1/users',
  '/api/v2.1/users//42': '/api/v2.1/users/{id}',
  '/orders/-17/items/3.5': '/orders/{id}/items/{id}',
  '/u/550e8400-e29b-41d4-a716-446655440000/avatar.png': '/u/{id}/avatar.png',
  '/u/550E8400-E29B-41D4-A716-446655440000': '/u/{id}',
  '/blobs/deadbeef1': '/blobs/{id}',
  '/blobs/4bf92f3577b34da6a3ce929d0e0e4736': '/blobs/{id}',
  '/decade/facade': '/decade/facade',
  '/t/01ARZ3NDEKTSV4RRFFQ69G5FAV': '/t/{id}',
  '/t/dGhpc0lzQVNlY3JldFRva2Vu': '/t/{id}',
  '/t/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0': '/t/{id}',
  '/cal/2024-05-01': '/cal/{id}',
  '/a%20b/c': '/{id}/c',
  '/shop.v1.CartService/GetCart': '/shop.v1.CartService/GetCart',
  '/hipstershop.ProductCatalogService/ListProducts': '/hipstershop.ProductCatalogService/ListProducts',
  '/api/getUserPreferencesById': '/api/getUserPreferencesById',
  '/google.pubsub.v1.Publisher/Publish': '/google.pubsub.v1.Publisher/Publish',
  '/a/b/c/d/e/f/g/h/i/j': '/a/b/c/d/e/f/g/h/...',
  '/s3/buckets': '/s3/buckets',
};

describe('path templates', () => {
  test('identifiers become {id}, words stay', () => {
    for (const [path, template] of Object.entries(EXPECTED)) assert.equal(pathTemplate(path), template, path);
  });

  const unit = fc.oneof(fc.constantFrom('/', '{', '}', '%', '.', '-', '1', 'aB'), fc.string({ maxLength: 50 }));

  test('any path: bounded, never throws, and the template of a template is the same', () => {
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 30 }), parts => {
        const template = pathTemplate(`/${parts.join('')}`);
        assert.ok(template.startsWith('/'));
        assert.ok(template.split('/').length <= MAX_TEMPLATE_SEGMENTS + 2);
        assert.ok(template.length <= (MAX_TEMPLATE_SEGMENTS + 1) * 41);
        assert.equal(pathTemplate(template), template);
      }),
      { seed: 3986, numRuns: 2000 },
    );
  });

  test('random identifiers of the usual kinds give one template', () => {
    const identifier = fc.oneof(
      fc.uuid(),
      fc.ulid(),
      fc.bigInt({ min: 0n, max: 2n ** 63n }).map(String),
      fc.uint8Array({ minLength: 8, maxLength: 32 }).map(bytes => Buffer.from(bytes).toString('hex')),
    );
    fc.assert(
      fc.property(identifier, text => {
        // Eight bytes without a single digit happen once in a thousand or so, and look like a word.
        fc.pre(/\d/.test(text));
        assert.equal(pathTemplate(`/orders/${text}/items`), '/orders/{id}/items');
      }),
      { seed: 3986, numRuns: 1000 },
    );
  });
});
