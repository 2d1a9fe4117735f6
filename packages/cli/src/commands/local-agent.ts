// The agent that `ambit up` starts; nobody types it.
import { becomeFrugal } from '@ambit/cni';
import { LocalError, runLocalAgent } from '@ambit/local';

/** @param json directories and the owner, from our own supervisor */
export async function localAgent(json: string): Promise<number> {
  const { state, run, uid } = JSON.parse(json) as { readonly [key: string]: unknown };
  if (typeof state !== 'string' || typeof run !== 'string' || typeof uid !== 'number') {
    throw new LocalError('local.argument', 'ambit up starts this');
  }
  becomeFrugal();
  return runLocalAgent({ directories: { state, run }, ownerUid: uid, env: process.env });
}
