// Uses the package from CommonJS in strict TypeScript.
import fdsplice = require('fdsplice');
import type { RelayOptions } from 'fdsplice';

const { capabilities, RateLimiter, TransferError } = fdsplice;
const limiter: fdsplice.RateLimiter = new RateLimiter(1e9);
export const options: RelayOptions = { rateLimit: limiter };
/** The types of `import` are those of `require`. */
export const imported: import('fdsplice', { with: { 'resolution-mode': 'import' } }).RateLimiter = limiter;
const error: unknown = new TransferError('a test', {
  code: 'ABORT_ERR',
  traffic: { tx: 0, rx: 0, total: 0 },
});
console.log(
  JSON.stringify({
    node: process.version,
    capabilities: capabilities(),
    isTransferError: error instanceof TransferError,
  }),
);
