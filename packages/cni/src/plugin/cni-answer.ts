// What the plugin prints: nothing, a result, or an error as the CNI specification wants it (code, msg, details), with a
// non-zero status. What has another cause than the request is said to be transient, so that the runtime tries again.
import { errorText } from '@ambit/log';
import { CniError, type CniErrorCode } from '../errors.ts';
import type { JsonObject } from './cni-result.ts';
import { type CniVersion, NEWEST_CNI_VERSION } from './cni-version.ts';

export interface CniAnswer {
  /** Exit status of the plugin: 0 or 1. */
  readonly status: number;
  readonly stdout: string;
}

/** Codes below 100 are CNI's: SPEC.md, "Error". */
export const CNI_CODE = {
  incompatibleVersion: 1,
  invalidEnvironment: 4,
  io: 5,
  decoding: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  cannotServe: 50,
  /** Ours: trying again changes nothing. */
  refused: 100,
} as const;

/** What is not here may pass by itself. */
const CODES: Partial<Readonly<Record<CniErrorCode, number>>> = {
  'cni.unsupported': CNI_CODE.incompatibleVersion,
  'cni.argument': CNI_CODE.invalidEnvironment,
  'cni.protocol': CNI_CODE.decoding,
  'cni.config': CNI_CODE.invalidConfig,
  'enrol.netns_foreign': CNI_CODE.refused,
};

export const NOTHING: CniAnswer = { status: 0, stdout: '' };

export function resultAnswer(result: JsonObject): CniAnswer {
  return { status: 0, stdout: `${JSON.stringify(result)}\n` };
}

export function errorAnswer(error: unknown, version: CniVersion = NEWEST_CNI_VERSION, about?: string): CniAnswer {
  const known = error instanceof CniError ? error : undefined;
  const code = (known && CODES[known.code]) ?? CNI_CODE.tryAgainLater;
  const what = `${about === undefined ? '' : `${about}: `}${errorText(error)}`;
  const msg = known === undefined ? `ambit: ${what}` : `ambit: ${what} [${known.code}]`;
  const details = [known?.where, known?.next === undefined ? undefined : `next: ${known.next}`];
  return failure(code, msg, version, details.filter(part => part !== undefined).join('; '));
}

export function failure(code: number, msg: string, version: CniVersion, details = ''): CniAnswer {
  const body = { cniVersion: version, code, msg, ...(details === '' ? {} : { details }) };
  return { status: 1, stdout: `${JSON.stringify(body)}\n` };
}
