// The words of nft's JSON language that our programs use (libnftables-json(5)); pure.

/** A JSON value that libnftables reads. */
export type NftJson = string | number | null | readonly NftJson[] | { readonly [key: string]: NftJson };
export type NftProgram = { readonly nftables: readonly NftJson[] };

/** Ours are all of this family: one table for both IP versions. */
export const NFT_FAMILY = 'inet';

export function nftTable(name: string): NftJson {
  return { table: { family: NFT_FAMILY, name } };
}

/**
 * Leaves the table empty, whatever it held: rules, chains and flags of others too. Added first, because deleting one that
 * is missing fails the transaction.
 */
export function nftNewTable(name: string): NftJson[] {
  return [...nftNoTable(name), { add: nftTable(name) }];
}

/** Fails the transaction when the table is there, and spares what it costs the kernel to take one away (10 ms). */
export function nftFirstTable(name: string): NftJson[] {
  return [{ create: nftTable(name) }];
}

export function nftNoTable(name: string): NftJson[] {
  return [{ add: nftTable(name) }, { delete: nftTable(name) }];
}

/** Every rule counts, and counts before its verdict. */
export function nftRule(
  table: string,
  chain: string,
  when: readonly NftJson[],
  ...verdict: readonly NftJson[]
): NftJson {
  return { add: { rule: { family: NFT_FAMILY, table, chain, expr: [...when, { counter: null }, ...verdict] } } };
}

export function nftBaseChain(table: string, name: string, type: string, hook: string, prio: number): NftJson {
  return { add: { chain: { family: NFT_FAMILY, table, name, type, hook, prio, policy: 'accept' } } };
}

export function nftMatch(op: '==' | '!=', left: NftJson, right: NftJson): NftJson {
  return { match: { op, left, right } };
}

export function nftMeta(key: string): NftJson {
  return { meta: { key } };
}

export function nftPayload(protocol: string, field: string): NftJson {
  return { payload: { protocol, field } };
}
