// A CommonJS program in TypeScript, for a compiler that knows that Node can require an ES module.
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
