// Uses the package from an ES module.
import { createRequire } from 'node:module';
import * as fdsplice from 'fdsplice';
import { exchange } from './exchange.cjs';
import { isOne } from './modules.cjs';

const required = createRequire(import.meta.url)('fdsplice');
await exchange(fdsplice, {
  // `import` and `require` return the same objects, so an error of one is an instance of the other's class.
  isSame: Object.keys(fdsplice).every((name) => fdsplice[name] === required[name]),
  isOne: await isOne(),
});
