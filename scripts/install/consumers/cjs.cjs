// Uses the package from CommonJS.
const fdsplice = require('fdsplice');
const { exchange } = require('./exchange.cjs');
const { isOne } = require('./modules.cjs');

void Promise.all([import('fdsplice'), isOne()]).then(([imported, isOne]) =>
  exchange({ ...fdsplice, TransferError: imported.TransferError }, { isOne }),
);
