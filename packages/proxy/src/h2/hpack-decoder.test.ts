// RFC 7541 appendix C, block by block with the table size after each, then the rules a block may break.

import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import { HpackDecoder, type HpackFault } from './hpack-decoder.ts';

type Field = [name: string, value: string];

function decodeHex(decoder: HpackDecoder, hex: string): { fields: Field[]; fault: HpackFault | 0 } {
  const block = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  const fields: Field[] = [];
  const fault = decoder.decode(block, 0, block.length, { header: (name, value) => fields.push([name, value]) });
  return { fields, fault };
}

function tableSize(decoder: HpackDecoder): number {
  return decoder.exportState().entries.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
}

function newDecoder(maxTableSize = 4096, maxHeaderListBytes = 65_536): HpackDecoder {
  return new HpackDecoder({ maxTableSize, maxHeaderListBytes });
}

const REQUESTS: Field[][] = [
  [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
  ],
  [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
    ['cache-control', 'no-cache'],
  ],
  [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':path', '/index.html'],
    [':authority', 'www.example.com'],
    ['custom-key', 'custom-value'],
  ],
];
const COOKIE = 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1';
const RESPONSES: Field[][] = [
  [
    [':status', '302'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['location', 'https://www.example.com'],
  ],
  [
    [':status', '307'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['location', 'https://www.example.com'],
  ],
  [
    [':status', '200'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'],
    ['location', 'https://www.example.com'],
    ['content-encoding', 'gzip'],
    ['set-cookie', COOKIE],
  ],
];

interface Vector {
  readonly name: string;
  readonly capacity: number;
  readonly blocks: readonly string[];
  readonly expected: readonly Field[][];
  readonly sizes: readonly number[];
}

const VECTORS: Vector[] = [
  {
    name: 'C.2.1 literal with indexing',
    capacity: 4096,
    blocks: ['400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572'],
    expected: [[['custom-key', 'custom-header']]],
    sizes: [55],
  },
  {
    name: 'C.2.2 literal without indexing',
    capacity: 4096,
    blocks: ['040c 2f73 616d 706c 652f 7061 7468'],
    expected: [[[':path', '/sample/path']]],
    sizes: [0],
  },
  {
    name: 'C.2.3 literal never indexed',
    capacity: 4096,
    blocks: ['1008 7061 7373 776f 7264 0673 6563 7265 74'],
    expected: [[['password', 'secret']]],
    sizes: [0],
  },
  { name: 'C.2.4 indexed', capacity: 4096, blocks: ['82'], expected: [[[':method', 'GET']]], sizes: [0] },
  {
    name: 'C.3 requests without Huffman',
    capacity: 4096,
    blocks: [
      '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
      '8286 84be 5808 6e6f 2d63 6163 6865',
      '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
    ],
    expected: REQUESTS,
    sizes: [57, 110, 164],
  },
  {
    name: 'C.4 requests with Huffman',
    capacity: 4096,
    blocks: [
      '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
      '8286 84be 5886 a8eb 1064 9cbf',
      '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
    ],
    expected: REQUESTS,
    sizes: [57, 110, 164],
  },
  {
    name: 'C.5 responses without Huffman, evicting',
    capacity: 256,
    blocks: [
      `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
       546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`.replaceAll('\n', ''),
      '4803 3330 37c1 c0bf',
      `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
       6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
       2076 6572 7369 6f6e 3d31`.replaceAll('\n', ''),
    ],
    expected: RESPONSES,
    sizes: [222, 222, 215],
  },
  {
    name: 'C.6 responses with Huffman, evicting',
    capacity: 256,
    blocks: [
      '4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
      '4883 640e ffc1 c0bf',
      `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
       dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`.replaceAll('\n', ''),
    ],
    expected: RESPONSES,
    sizes: [222, 222, 215],
  },
];

describe('RFC 7541 appendix C', () => {
  for (const vector of VECTORS) {
    test(`decodes ${vector.name}`, () => {
      const decoder = newDecoder();
      if (vector.capacity === 256) assert.equal(decodeHex(decoder, '3f e1 01').fault, 0);
      for (const [i, block] of vector.blocks.entries()) {
        const { fields, fault } = decodeHex(decoder, block);
        assert.equal(fault, 0);
        assert.deepEqual(fields, vector.expected[i]);
        assert.equal(tableSize(decoder), vector.sizes[i]);
      }
    });
  }
});

describe('a header block is a compression error with', () => {
  const errors: [why: string, hex: string][] = [
    ['index 0', '80'],
    ['an index beyond the static table', 'be'],
    ['a name index beyond the static table', '7e 0161'],
    ['an index that overflows', 'ff ffffffff7f'],
    ['an integer of 2^31', 'ff 81ffffff07'],
    ['an integer with too many bytes of zero', '3f 808080808000'],
    ['an integer cut short', 'ff 80'],
    ['a name cut short', '40 05 6162'],
    ['no value', '40 01 61'],
    ['a value cut short', '40 01 61 05 62'],
    ['a string of 2^31 - 1 bytes', '40 7f 80ffffff07 61'],
    ['a size update over the announced size', '3f e2 1f'],
    ['a size update after a field', '82 20'],
    ['a Huffman string with EOS', '40 84 ffffffff 01 61'],
    ['Huffman padding of zeros', '40 81 18 01 61'],
    ['Huffman padding of eight ones', '40 82 1fff 01 61'],
    ['a Huffman string of padding only, eight bits', '40 81 ff 01 61'],
  ];
  for (const [why, hex] of errors) {
    test(why, () => {
      const { fault } = decodeHex(newDecoder(), hex);
      assert.equal(fault !== 0 && fault.kind, 'compression');
    });
  }
});

describe('table size', () => {
  test('an entry larger than the table empties it and is still delivered', () => {
    const decoder = newDecoder();
    decodeHex(decoder, '3f 21 40 01 61 01 62');
    assert.equal(tableSize(decoder), 34);
    const { fields, fault } = decodeHex(decoder, `40 01 63 40 ${'64'.repeat(64)}`);
    assert.equal(fault, 0);
    assert.deepEqual(fields, [['c', 'd'.repeat(64)]]);
    assert.equal(tableSize(decoder), 0);
  });

  test('a new entry may take its name from the entry it evicts', () => {
    const decoder = newDecoder();
    // Table of 64 bytes; 'name: 1' then 'name: 2...' naming it, which does not fit beside it.
    decodeHex(decoder, '3f 21 40 04 6e616d65 01 31');
    const { fields, fault } = decodeHex(decoder, `7e 1b ${'32'.repeat(27)}`);
    assert.equal(fault, 0);
    assert.deepEqual(fields, [['name', '2'.repeat(27)]]);
    assert.deepEqual(decoder.exportState().entries, [['name', '2'.repeat(27)]]);
  });

  test('two updates at the start of a block take effect in turn', () => {
    const decoder = newDecoder();
    decodeHex(decoder, '40 01 61 01 62');
    const { fault } = decodeHex(decoder, '20 3f e1 1f 82');
    assert.equal(fault, 0);
    assert.deepEqual(decoder.exportState().entries, []);
    assert.equal(decoder.exportState().capacity, 4096);
  });

  test('the default size is allowed until our smaller one is acknowledged', () => {
    const decoder = newDecoder(0);
    assert.equal(decodeHex(decoder, '40 01 61 01 62').fault, 0);
    decoder.settingsAcknowledged();
    const { fault } = decodeHex(decoder, 'be');
    assert.equal(fault !== 0 && fault.kind, 'compression');
  });

  test('after the acknowledgement a block starts with the smaller size', () => {
    const decoder = newDecoder(0);
    decodeHex(decoder, '40 01 61 01 62');
    decoder.settingsAcknowledged();
    assert.deepEqual(decodeHex(decoder, '20 88').fields, [[':status', '200']]);
    assert.equal(tableSize(decoder), 0);
    // Once is enough.
    assert.equal(decodeHex(decoder, '88').fault, 0);
    const { fault } = decodeHex(decoder, '21');
    assert.equal(fault !== 0 && fault.kind, 'compression');
  });

  test('a larger announced size may be used', () => {
    const decoder = newDecoder(65_536);
    decoder.settingsAcknowledged();
    assert.equal(decodeHex(decoder, '3f e1 ff 03').fault, 0);
    assert.equal(decoder.exportState().capacity, 65_536);
  });
});

describe('header list limit', () => {
  test('is counted with 32 bytes a field, to the byte', () => {
    // ':status: 200' counts 42.
    assert.equal(decodeHex(newDecoder(4096, 42), '88').fault, 0);
    const { fields, fault } = decodeHex(newDecoder(4096, 41), '88');
    assert.equal(fault !== 0 && fault.kind, 'too_large');
    assert.deepEqual(fields, []);
  });

  test('a block over it still updates the table, so the next block decodes', () => {
    const decoder = newDecoder(4096, 50);
    const { fields, fault } = decodeHex(decoder, `88 88 40 03 6b6579 05 76616c7565`);
    assert.equal(fault !== 0 && fault.kind, 'too_large');
    assert.deepEqual(fields, [[':status', '200']]);
    assert.deepEqual(decodeHex(decoder, 'be').fields, [['key', 'value']]);
  });

  test('a compression error after it is still a compression error', () => {
    const { fault } = decodeHex(newDecoder(4096, 10), '88 88 80');
    assert.equal(fault !== 0 && fault.kind, 'compression');
  });

  test('a bomb of references to one large entry reaches the sink only up to the limit', () => {
    const decoder = newDecoder(4096, 65_536);
    const large = `40 01 61 7f d11e ${'62'.repeat(4048)}`;
    let bytes = 0;
    const block = Buffer.concat([Buffer.from(large.replaceAll(' ', ''), 'hex'), Buffer.alloc(60_000, 0xbe)]);
    const fault = decoder.decode(block, 0, block.length, {
      header(name, value) {
        bytes += name.length + value.length + 32;
      },
    });
    // 60 000 references stand for 245 MB.
    assert.equal(fault !== 0 && fault.kind, 'too_large');
    assert.ok(bytes > 0 && bytes <= 65_536);
    assert.equal(decoder.exportState().entries.length, 1);
  });
});

describe('hand-over', () => {
  test('a decoder goes on from its exported state after every block', () => {
    for (const vector of VECTORS) {
      let decoder = newDecoder();
      if (vector.capacity === 256) decodeHex(decoder, '3f e1 01');
      for (const [i, block] of vector.blocks.entries()) {
        decoder = HpackDecoder.fromState(structuredClone(decoder.exportState()), { maxHeaderListBytes: 65_536 });
        assert.deepEqual(decodeHex(decoder, block).fields, vector.expected[i]);
      }
    }
  });

  test('an update that is due stays due', () => {
    const options = { maxTableSize: 0, maxHeaderListBytes: 1000 };
    const decoder = new HpackDecoder(options);
    decoder.settingsAcknowledged();
    const moved = HpackDecoder.fromState(decoder.exportState(), options);
    const { fault } = decodeHex(moved, '88');
    assert.equal(fault !== 0 && fault.kind, 'compression');
  });

  test('a state that no decoder can have is refused', () => {
    const sound = newDecoder().exportState();
    const options = { maxHeaderListBytes: 1000 };
    const broken = [
      { ...sound, limit: 1_000_000 },
      { ...sound, capacity: 4097 },
      { ...sound, capacity: -1 },
      { ...sound, entries: [['a', 'b'.repeat(4096)] as const] },
    ];
    for (const state of broken) assert.throws(() => HpackDecoder.fromState(state, options), RangeError);
  });
});
