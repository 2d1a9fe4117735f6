// The index against the plain words of the rule: for each alias, for each candidate, look at every service of the mesh.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mesh, service } from '../../test/fixture.ts';
import type { Service } from '../service.ts';
import { aliasesOf, podSearchDomains } from './aliases.ts';
import { resolveName } from './resolve-name.ts';

const DOMAIN = 'cluster.local';
const SETTINGS = { clusterDomain: DOMAIN, ipv6: true, preferredNamespace: 'n3', searchDomains: undefined };

function scan(services: readonly Service[], namespace: string, name: string): string {
  const aliases = aliasesOf(name, {
    clusterDomain: DOMAIN,
    namespace,
    searchDomains: podSearchDomains(namespace, DOMAIN),
  });
  for (const alias of aliases) {
    const labels = alias.name.split('.');
    const wildcards = labels.slice(1).map((_, index) => ['*', ...labels.slice(index + 1)].join('.'));
    for (const candidate of [alias.name, ...wildcards]) {
      const [best] = services
        .filter(
          ({ hostname, vips, visibility, namespace: own }) =>
            hostname.toLowerCase() === candidate &&
            (vips.length > 0 || candidate.endsWith(`.svc.${DOMAIN}`)) &&
            (visibility === 'Public' || own === namespace),
        )
        .toSorted((a, b) => claim(b, namespace) - claim(a, namespace) || (a.namespace < b.namespace ? -1 : 1));
      if (best === undefined) continue;
      const canonical = candidate === alias.name && !candidate.startsWith('*.') ? alias.stripped : undefined;
      return `${best.namespace}/${best.hostname} as ${canonical ?? 'asked'}`;
    }
  }
  return 'forward';
}

function claim(candidate: Service, namespace: string): number {
  return (
    4 * Number(candidate.namespace === namespace) +
    2 * Number(candidate.canonical) +
    Number(candidate.namespace === SETTINGS.preferredNamespace)
  );
}

const label = fc.constantFrom('a', 'b', 'n1', 'n2', 'svc', 'cluster', 'local');
const host = fc.oneof(
  fc.tuple(label, fc.constantFrom('n1', 'n2')).map(([name, space]) => `${name}.${space}.svc.${DOMAIN}`),
  fc.array(label, { minLength: 1, maxLength: 4 }).map(labels => labels.join('.')),
  fc.array(label, { minLength: 1, maxLength: 3 }).map(labels => ['*', ...labels].join('.')),
  fc.constantFrom('A.n1.svc.cluster.local', '*.B', 'A.b'),
);
const anyService = fc
  .record({
    hostname: host,
    namespace: fc.constantFrom('n1', 'n2', 'n3'),
    vips: fc.constantFrom(['/10.0.0.1'], ['/10.0.0.1'], []),
    canonical: fc.boolean(),
    visibility: fc.constantFrom('Public', 'Public', 'Namespace'),
  })
  .map(fields => service(fields.hostname, fields));
const asked = fc.oneof(
  fc.tuple(host, fc.constantFrom('', '', '.n1.svc.cluster.local', '.svc.cluster.local', '.cluster.local')),
  fc.tuple(
    fc.array(label, { minLength: 1, maxLength: 5 }).map(labels => labels.join('.')),
    fc.constant(''),
  ),
);

test('the index finds what looking at every service finds', () => {
  fc.assert(
    fc.property(
      fc.array(anyService, { maxLength: 12 }),
      fc.array(asked, { minLength: 1, maxLength: 8 }),
      fc.constantFrom('n1', 'n2'),
      (services, names, namespace) => {
        const state = mesh({ services });
        for (const parts of names) {
          const name = parts.join('').toLowerCase();
          const decision = resolveName(state, { namespace, network: '' }, { name, type: 'A' }, SETTINGS);
          // The service is named by its host only; which of several it was shows in what the scan says of its namespace.
          const found =
            decision.kind === 'answer'
              ? `${ownerIn(decision.steps.map(({ what }) => what))}/${decision.service} as ${decision.canonical ?? 'asked'}`
              : decision.kind;
          assert.equal(found, scan([...state.services()], namespace, name), name);
        }
      },
    ),
    { seed: 20261126, numRuns: 1000 },
  );
});

/** Namespace of the service that the steps say answered. */
function ownerIn(steps: readonly string[]): string {
  for (const step of steps) {
    const match = / is service ([^/]+)\//.exec(step);
    if (match?.[1] !== undefined) return match[1];
  }
  return '?';
}

test('whatever is asked gets a decision', () => {
  const state = mesh({ services: [service('a', { vips: ['/10.0.0.1'] }), service('*.b', { hostname: '*.b' })] });
  const text = fc.oneof(
    fc.string({ maxLength: 255 }),
    fc
      .array(fc.constantFrom('.', 'a', 'b', '*', 'svc', 'cluster.local', ''), { maxLength: 60 })
      .map(all => all.join('')),
  );
  fc.assert(
    fc.property(text, name => {
      const decision = resolveName(state, { namespace: 'ns', network: '' }, { name, type: 'A' }, SETTINGS);
      assert.ok(decision.kind === 'forward' || decision.kind === 'answer');
      assert.ok(decision.steps.length > 0);
    }),
    { seed: 20261127, numRuns: 1000 },
  );
});
