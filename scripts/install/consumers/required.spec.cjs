// Uses the package from CommonJS in a test runner. The result goes into the file that RESULT names.
/* global it, jest */
const { writeFileSync } = require('node:fs');
const fdsplice = require('fdsplice');
const { exchange } = require('./exchange.cjs');

it('relays', async () => {
  const more = {};
  if (typeof jest !== 'undefined') {
    // Jest evaluates the package a second time in the same process.
    jest.resetModules();
    const again = require('fdsplice');
    const { isExact, isIntact, engine } = await exchange(again);
    more.isEvaluatedTwice = again.relay !== fdsplice.relay && isExact && isIntact;
    more.isSameEngine = again.capabilities().native === fdsplice.capabilities().native && engine === 'native';
    more.isIdle = again.stats().active === 0 && fdsplice.stats().active === 0;
  }
  writeFileSync(process.env.RESULT, JSON.stringify(await exchange(fdsplice, more)));
});
