// What a translation yields, and its encoding. Only the encoded form is kept: a hundred thousand decoded messages would
// cost far more memory than their bytes.
import { hash } from 'node:crypto';
import { type AddressInit, type AuthorizationInit, encodeAddress, encodeAuthorization } from '@ambit/wire/resources';
import type { Diagnostic } from '../diagnostic.ts';
import type { XdsResource } from './resource.ts';

type AddressCase<C> = Extract<NonNullable<AddressInit['type']>, { readonly case: C }>;
export type WorkloadInit = NonNullable<AddressCase<'workload'>['value']>;
export type ServiceInit = NonNullable<AddressCase<'service'>['value']>;

export interface Translation {
  readonly resources: readonly XdsResource[];
  readonly diagnostics: readonly Diagnostic[];
}

export const NO_TRANSLATION: Translation = { resources: [], diagnostics: [] };

const NONE: readonly string[] = [];
const VERSION_DIGITS = 16;

/** @param services the keys of the map in `value`, which must be in this order */
export function workloadResource(
  uid: string,
  value: WorkloadInit,
  aliases: readonly string[],
  services: readonly string[],
  node: string,
): XdsResource {
  const bytes = encodeAddress({ type: { case: 'workload', value } });
  return { kind: 'workload', name: uid, version: versionOf(bytes), aliases, value: bytes, services, node };
}

export function serviceResource(key: string, value: ServiceInit, aliases: readonly string[]): XdsResource {
  const bytes = encodeAddress({ type: { case: 'service', value } });
  return { kind: 'service', name: key, version: versionOf(bytes), aliases, value: bytes, services: NONE, node: '' };
}

export function authorizationResource(init: AuthorizationInit): XdsResource {
  const value = encodeAuthorization(init);
  const name = `${init.namespace ?? ''}/${init.name ?? ''}`;
  return { kind: 'authorization', name, version: versionOf(value), aliases: NONE, value, services: NONE, node: '' };
}

function versionOf(value: Uint8Array): string {
  return hash('sha256', value).slice(0, VERSION_DIGITS);
}
