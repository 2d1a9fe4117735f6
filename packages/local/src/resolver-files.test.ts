import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forwardedResolvConf, hostsFile, resolvConf } from './resolver-files.ts';

const FACTS = {
  hostText: '# made by hand\nnameserver 127.0.0.53\nsearch corp.example .\noptions edns0 ndots:1\n',
  realText: 'nameserver 192.0.2.53\nnameserver 2001:db8::53\n',
  hostIp: '10.62.0.1',
  clusterDomain: 'cluster.local',
};

test("a member asks the mesh, its own namespace first, the host's domains last", () => {
  assert.equal(
    resolvConf({ namespace: 'shop', isMember: true }, FACTS),
    'nameserver 10.62.0.1\n' +
      'search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n' +
      'options ndots:5 edns0\n',
  );
});

test('an outsider asks resolvers that it can reach', () => {
  const outsider = { namespace: 'shop', isMember: false };
  assert.match(
    resolvConf(outsider, FACTS),
    /^nameserver 192\.0\.2\.53\nnameserver 2001:db8::53\nsearch corp\.example\n/,
  );
  const reachable = { ...FACTS, hostText: 'nameserver 198.51.100.1\n' };
  assert.equal(resolvConf(outsider, reachable), 'nameserver 198.51.100.1\n');
  assert.doesNotMatch(resolvConf(outsider, { ...FACTS, realText: undefined }), /nameserver/);
});

test('a workload knows itself and localhost', () => {
  const text = hostsFile({ name: 'cart', namespace: 'shop', ip4: '10.62.0.2', ip6: 'fd00:62::2' }, 'cluster.local');
  assert.match(text, /^127\.0\.0\.1 localhost$/m);
  assert.match(text, /^10\.62\.0\.2 cart cart\.shop\.svc\.cluster\.local$/m);
  assert.match(text, /^fd00:62::2 cart /m);
});

test('a network that reaches none of the host’s resolvers asks who forwards to them; one that reaches some keeps its file', () => {
  assert.equal(
    forwardedResolvConf(FACTS.hostText, '169.254.1.1'),
    'nameserver 169.254.1.1\nsearch corp.example\noptions edns0 ndots:1\n',
  );
  assert.equal(forwardedResolvConf('nameserver ::1\nnameserver 192.0.2.53\n', '169.254.1.1'), undefined);
  assert.equal(forwardedResolvConf('', '169.254.1.1'), 'nameserver 169.254.1.1\n', 'without one, 127.0.0.1 is asked');
});
