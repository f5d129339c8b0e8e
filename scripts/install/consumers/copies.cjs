// Uses two copies of the package in one process, as an installation has them that npm could not reduce to one.
const { cpSync } = require('node:fs');
const { join } = require('node:path');
const { exchange } = require('./exchange.cjs');

for (const name of ['fdsplice', '@fdsplice']) {
  cpSync(join(__dirname, 'node_modules', name), join(__dirname, 'other/node_modules', name), {
    recursive: true,
  });
}
const first = require('fdsplice');
const second = require('./other/node_modules/fdsplice');

/** The error for a limiter of the other copy, whose class this copy does not know. */
const refusal = (rateLimit) => second.copy(0, 1, { rateLimit }).catch((error) => error);

void (async () => {
  const native = [first, second].every(({ capabilities }) => capabilities().native);
  const [one, two] = await Promise.all([exchange(first), exchange(second)]);
  const refused = await refusal(new first.RateLimiter(1e9));
  await exchange(first, {
    isTwice: first.relay !== second.relay && native,
    isConcurrent: [one, two].every(
      ({ isExact, isIntact, engine }) => isExact && isIntact && engine === 'native',
    ),
    isRefused: refused.code === 'ERR_INVALID_ARG_TYPE' && refused.message.includes('rateLimit'),
    isCountedApart: [first, second].every(({ stats }) => stats().active === 0),
  });
})();
