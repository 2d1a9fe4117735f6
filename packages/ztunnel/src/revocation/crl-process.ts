// The program of the helper process that reads revocation lists, see helper/helper-process.ts.
import { serveHelper } from '../helper/serve-helper.ts';
import { type CrlRequest, readCrls } from './crl-reader.ts';

// The parent is our own process and asks for nothing else.
serveHelper('config.invalid', async payload => readCrls(payload as CrlRequest, Date.now()));
