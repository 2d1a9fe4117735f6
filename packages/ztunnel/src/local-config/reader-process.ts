// The program of the helper process that reads local configuration, see helper/helper-process.ts.
import { serveHelper } from '../helper/serve-helper.ts';
import { ZtunnelError } from '../errors.ts';
import { readLocalConfig } from './reader.ts';

serveHelper('config.invalid', async payload => {
  if (typeof payload === 'object' && payload !== null && 'text' in payload && 'source' in payload) {
    return readLocalConfig(String(payload.text), String(payload.source));
  }
  throw new ZtunnelError('config.invalid', 'not a request to read a configuration');
});
