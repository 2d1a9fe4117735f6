import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { at } from '../test/fixture.ts';
import { formatBaggage, parseBaggage } from './baggage.ts';
import { formatForwarded, parseForwardedHost } from './forwarded.ts';
import { formatTraceparent, parseTraceparent } from './traceparent.ts';
import { createWorkload, summarizeWorkload, type WorkloadSummary } from './workload.ts';

const EMPTY = parseBaggage([]);
const NOBODY = summarizeWorkload(createWorkload({ uid: '', name: '', namespace: '' }));

describe('baggage', () => {
  const header =
    'k8s.cluster.name=c1,k8s.namespace.name=ns,k8s.deployment.name=dep,service.name=svc,service.version=v1,cloud.region=r,cloud.availability_zone=z';

  test('B1: is read', () => {
    assert.deepEqual(parseBaggage([header]), {
      cluster: 'c1',
      namespace: 'ns',
      workloadType: 'deployment',
      workloadName: 'dep',
      canonicalName: 'svc',
      canonicalRevision: 'v1',
      region: 'r',
      zone: 'z',
    });
  });

  test('is written in upstream’s order, byte for byte', () => {
    const workload: WorkloadSummary = {
      ...NOBODY,
      cluster: 'c1',
      namespace: 'ns',
      workloadType: 'deployment',
      workloadName: 'dep',
      canonicalName: 'svc',
      canonicalRevision: 'v1',
      region: 'r',
      zone: 'z',
    };
    assert.equal(formatBaggage(workload), header);
    assert.equal(formatBaggage({ ...NOBODY, workloadType: 'job', workloadName: 'w' }), 'k8s.job.name=w');
    assert.equal(formatBaggage(NOBODY), '');
  });

  test('B2: empty values are unknown', () => {
    const keys = ['k8s.cluster.name', 'k8s.namespace.name', 'k8s.deployment.name', 'service.name', 'service.version'];
    assert.deepEqual(parseBaggage([keys.map(key => `${key}=`).join(',')]), EMPTY);
  });

  test('B3: several lines are one, later items win', () => {
    const read = parseBaggage(['k8s.cluster.name=a,service.name=s', 'k8s.cluster.name=b', 'k8s.pod.name=p']);
    assert.deepEqual(read, { ...EMPTY, cluster: 'b', canonicalName: 's', workloadType: 'pod', workloadName: 'p' });
  });

  test('B4: no header is all unknown', () => assert.ok(Object.values(EMPTY).every(value => value === undefined)));

  test('blanks, properties, equals signs and unknown keys do no harm', () => {
    const read = parseBaggage([' service.name = a=b ;p=1 , x=y, junk, =, k8s.evil.name=z']);
    assert.deepEqual(read, { ...EMPTY, canonicalName: 'a=b' });
  });

  test('a line with other than ASCII is ignored, the next one is not', () => {
    assert.deepEqual(parseBaggage(['service.name=ü', 'service.name=u']), { ...EMPTY, canonicalName: 'u' });
  });

  test('a percent sign that encodes nothing means itself', () => {
    assert.equal(parseBaggage(['service.name=100%']).canonicalName, '100%');
  });

  test('B5: what is written is read back, whatever the values', () => {
    const value = fc.oneof(
      fc.constant(''),
      fc.string({ maxLength: 30 }),
      fc.string({ unit: 'grapheme', maxLength: 10 }),
    );
    const summary = fc.record({
      cluster: value,
      namespace: value,
      workloadName: value,
      canonicalName: value,
      canonicalRevision: value,
      region: value,
      zone: value,
      workloadType: fc.constantFrom('deployment', 'cronjob', 'pod', 'job'),
    });
    fc.assert(
      fc.property(summary, fields => {
        const text = formatBaggage({ ...NOBODY, ...fields });
        assert.match(text, /^[\x21-\x7e]*$/);
        const orUndefined = (field: string): string | undefined => (field === '' ? undefined : field);
        assert.deepEqual(parseBaggage([text]), {
          cluster: orUndefined(fields.cluster),
          namespace: orUndefined(fields.namespace),
          workloadType: fields.workloadName === '' ? undefined : fields.workloadType,
          workloadName: orUndefined(fields.workloadName),
          canonicalName: orUndefined(fields.canonicalName),
          canonicalRevision: orUndefined(fields.canonicalRevision),
          region: orUndefined(fields.region),
          zone: orUndefined(fields.zone),
        });
      }),
      { seed: 51, numRuns: 2000 },
    );
  });

  test('no header makes the reader throw', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 60 })), headers => {
        parseBaggage(headers);
        for (const one of headers) {
          parseForwardedHost(one);
          parseTraceparent(one);
        }
      }),
      { seed: 52, numRuns: 2000 },
    );
  });
});

describe('forwarded', () => {
  test('O22: is written with the quoted source and the service when there is one', () => {
    assert.equal(formatForwarded(at('127.0.0.1:80')), 'for="127.0.0.1:80"');
    assert.equal(formatForwarded(at('[::1]:80')), 'for="[::1]:80"');
    assert.equal(formatForwarded(at('127.0.0.1:80'), 'example.com'), 'for="127.0.0.1:80";host=example.com');
  });

  for (const [text, host] of [
    ['for="127.0.0.1:80";host=example.com', 'example.com'],
    ['host="example.com"', 'example.com'],
    ['for=x; host=example.com ', 'example.com'],
    ['for=x', undefined],
    ['', undefined],
    ['host=', undefined],
    ['host=""', undefined],
    ['Host=example.com', undefined],
    ['host=exämple.com', undefined],
    ['host=a;host=b', 'a'],
    [`host=${'a'.repeat(5000)}`, undefined],
  ] as const) {
    test(`I15: the host of ${JSON.stringify(text.slice(0, 40))} is ${host ?? 'none'}`, () => {
      assert.equal(parseForwardedHost(text), host);
    });
  }
});

describe('traceparent', () => {
  const good = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

  test('is read and written', () => {
    const parsed = parseTraceparent(good) ?? assert.fail();
    assert.deepEqual(parsed, { traceId: good.slice(3, 35), parentId: good.slice(36, 52), flags: 1 });
    assert.equal(formatTraceparent(parsed), good);
  });

  for (const bad of [
    '',
    '0'.repeat(55),
    good.slice(1),
    `${good}-x`,
    good.toUpperCase(),
    good.replace('-', '_'),
    `ff${good.slice(2)}`,
    `00-${'0'.repeat(32)}${good.slice(35)}`,
    `${good.slice(0, 36)}${'0'.repeat(16)}-01`,
    `${good.slice(0, 54)}g`,
    `${good.slice(0, 54)}\n`,
  ]) {
    test(`${JSON.stringify(bad.slice(0, 60))} is none`, () => assert.equal(parseTraceparent(bad), undefined));
  }
});
