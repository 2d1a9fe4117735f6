// The arrows between the rooms (ARCHITECTURE.md), as rules that a build can fail on. Run by `npm run arrows`;
// tools/arrows.test.ts proves that each rule bites. A new package is refused until it has a line in ROOMS.

import { Visitor } from '@swc/core/Visitor.js';

// swc parses `using`, but its visitor refuses the statement. Teach it: the declarations inside are ordinary ones.
const visitStatement = Visitor.prototype.visitStatement;
Visitor.prototype.visitStatement = function (statement) {
  if (statement.type !== 'UsingDeclaration') return visitStatement.call(this, statement);
  return { ...statement, decls: this.visitVariableDeclarators(statement.decls) };
};

/** Which of our rooms each room may import. `cli` only wires, so it may import every room. */
const ROOMS = {
  mesh: [],
  native: [],
  wire: ['mesh'],
  proxy: ['mesh', 'native', 'wire'],
  insight: ['mesh', 'proxy'],
  ztunnel: ['insight', 'mesh', 'native', 'proxy', 'wire'],
  log: [],
  kube: ['log'],
  control: ['kube', 'log', 'mesh', 'wire'],
  cni: ['kube', 'log', 'mesh', 'native', 'wire'],
  local: ['cni', 'kube', 'log', 'mesh', 'native', 'wire'],
  testbed: ['cni', 'insight', 'mesh', 'native', 'wire'],
  cli: ['cni', 'control', 'insight', 'kube', 'local', 'log', 'mesh', 'native', 'proxy', 'testbed', 'wire', 'ztunnel'],
};

/**
 * Each third-party API has one door, so an upgrade or a replacement touches one room. Two where two rooms do the same on
 * either side of a protocol and share no code: sign and ask, read a mesh and read a file about it.
 */
const DOORS = {
  koffi: ['native'],
  '@koromix': ['native'],
  '@bufbuild/protobuf': ['wire'],
  '@kubernetes/client-node': ['kube'],
  jose: ['control'],
  '@opentelemetry': ['ztunnel'],
  '@peculiar/x509': ['ztunnel'],
  'reflect-metadata': ['ztunnel'],
  yaml: ['control', 'kube', 'ztunnel'],
  zod: ['control', 'ztunnel'],
  commander: ['cli'],
};

// Tests and what only serves them (`*-testing.ts`) see more than the code beside them: the testbed (a mesh to run in), the
// tools of tests, and libraries as independent peers. The FFI library keeps its one door even so.
const TEST_FILE = '[/-]testing[^/]*[.]ts$|[.]test[.]ts$|^packages/[^/]+/(test|bench)/';
const OUTSIDE_ROOMS = '^(bench|tools|examples)/';
const names = Object.keys(ROOMS).join('|');

const arrows = Object.entries(ROOMS).map(([room, allowed]) => ({
  name: `arrow-${room}`,
  comment: `${room} may import ${allowed.length === 0 ? 'no other room' : allowed.join(', ')}`,
  severity: 'error',
  from: { path: `^packages/${room}/`, pathNot: `^packages/${room}/test/` },
  to: { path: '^packages/', pathNot: `^packages/(${[room, ...allowed].join('|')})/` },
}));

const testArrows = Object.entries(ROOMS).map(([room, allowed]) => ({
  name: `arrow-${room}-test`,
  comment: `tests of ${room} may import what ${room} may, and the testbed`,
  severity: 'error',
  from: { path: `^packages/${room}/test/` },
  to: { path: '^packages/', pathNot: `^packages/(${[room, 'testbed', ...allowed].join('|')})/` },
}));

const doors = Object.entries(DOORS).map(([library, rooms]) => ({
  name: `door-${library.replace(/[^a-z0-9]+/gi, '-').replace(/^-/, '')}`,
  comment: `only ${rooms.join(' and ')} may import ${library}`,
  severity: 'error',
  from: { pathNot: rooms[0] === 'native' ? '^packages/native/' : `^packages/(${rooms.join('|')})/|${TEST_FILE}` },
  to: { path: `(^|/)node_modules/${library}/` },
}));

export default {
  forbidden: [
    ...arrows,
    ...testArrows,
    ...doors,
    {
      name: 'room-unlisted',
      comment: 'a new package needs a line in ROOMS, and one in ARCHITECTURE.md',
      severity: 'error',
      from: { path: '^packages/', pathNot: `^packages/(${names})/` },
      to: {},
    },
    {
      name: 'front-door',
      comment:
        'other rooms are entered by their name (@ambit/mesh), so by what index.ts shows, or by a further door that package.json exports (@ambit/testbed/demo, @ambit/wire/grpc, @ambit/native/quick-resolve); benchmarks and tools may look deeper',
      severity: 'error',
      from: { path: '^packages/([^/]+)/', pathNot: TEST_FILE },
      to: {
        path: '^packages/',
        pathNot:
          '^packages/($1/|[^/]+/src/index[.]ts$|testbed/src/demo/index[.]ts$|native/src/quick-resolve[.]ts$|wire/src/(resources|grpc|grpc-server)/index[.]ts$)',
      },
    },
    {
      name: 'front-door-test',
      comment:
        'tests may share what other rooms keep in test/ (certificates, fake peers), and nothing else behind the door',
      severity: 'error',
      from: { path: '^packages/([^/]+)/(test/|src/.*[.]test[.]ts$)' },
      to: {
        path: '^packages/',
        pathNot: '^packages/($1/|[^/]+/src/index[.]ts$|wire/src/(resources|grpc|grpc-server)/index[.]ts$|[^/]+/test/)',
      },
    },
    {
      name: 'no-cycle',
      comment: 'files that need each other to load are one idea; types may point both ways, they vanish before running',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'mesh-is-pure',
      comment: 'the rules of the mesh do no I/O and read no clock, so they use no module of Node',
      severity: 'error',
      from: { path: '^packages/mesh/', pathNot: TEST_FILE },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'tests-stay-outside',
      comment: 'code never imports a test or something from test/',
      severity: 'error',
      from: { path: '^packages/', pathNot: TEST_FILE },
      to: { path: TEST_FILE },
    },
    {
      name: 'declared',
      comment:
        'a package imports what its own package.json declares; what only tests and tools need is declared at the root',
      severity: 'error',
      from: { pathNot: `${TEST_FILE}|${OUTSIDE_ROOMS}` },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'npm-optional'] },
    },
    {
      name: 'resolves',
      comment: 'an import that leads nowhere',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    // TypeScript 7 has no compiler API; swc reads the same syntax, types included.
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.mts', '.js', '.mjs', '.json'],
    },
  },
};
