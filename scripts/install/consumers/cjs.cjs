// Uses the package from CommonJS.
const fdsplice = require('fdsplice');
const { exchange } = require('./exchange.cjs');

void import('fdsplice').then((imported) =>
  exchange(
    { ...fdsplice, TransferError: imported.TransferError },
    { isOne: fdsplice.relay === imported.relay },
  ),
);
