// What is read of the connections' plaintext, where no annotation says otherwise.
import type { L7Settings } from '../worker-protocol.ts';
import type { EnvReader } from './env-reader.ts';

export interface L7Config {
  readonly l7: L7Settings;
}

/** @throws config.invalid */
export function parseL7(read: EnvReader): L7Config {
  return {
    l7: {
      isOn: read.choice('AMBIT_L7', ['on', 'off'], 'on') === 'on',
      method: read.flagOr('AMBIT_L7_METHOD', false),
      path: read.flagOr('AMBIT_L7_PATH', false),
    },
  };
}
