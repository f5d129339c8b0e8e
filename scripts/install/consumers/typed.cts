// Uses the package from CommonJS in TypeScript. The compiler has to know that Node can require an ES module.
import fdsplice = require('fdsplice');

const { capabilities, TransferError }: typeof fdsplice = fdsplice;
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
