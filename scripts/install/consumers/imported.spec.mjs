// Uses the package from an ES module in a test runner. The result goes into the file that RESULT names.
/* global it */
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as fdsplice from 'fdsplice';
import { exchange } from './exchange.cjs';

it('relays', async () => {
  const isOne = createRequire(import.meta.url)('fdsplice').relay === fdsplice.relay;
  writeFileSync(process.env.RESULT, JSON.stringify(await exchange(fdsplice, { isOne })));
});
