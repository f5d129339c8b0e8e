// Sockets in random states, handed over while they go on changing: what arrives is what `stream.pipeline` would have
// delivered. FDSPLICE_SEED repeats a run.
import test from 'ava';

import { engine } from '../helpers/engine.js';
import { leavesNothing } from '../helpers/left.js';
import { check } from '../helpers/random/check.js';
import { type HandOver, handOver, runHandOver } from '../helpers/random/hand-overs.js';
import { workshop } from '../helpers/random/sockets.js';

/** After this, `stream.pipeline` of Node 22 and later never settles one of its ways. */
const destroyedBehindItsEnd: HandOver[] = (['destroy', 'intrude'] as const).map((ending) => ({
  transports: ['tcp', 'unix'],
  before: [
    { do: 'write', who: 1, bytes: 2 << 20 },
    { do: 'send', who: 0, bytes: 1 },
    { do: 'take', who: 0, bytes: 2 << 20, putBack: 0, how: 'read' },
    { do: 'send', who: 0, bytes: 31_236 },
  ],
  during: [
    { do: 'half-end', who: 0 },
    { do: 'wait', ms: 2 },
    { do: ending, who: 0 },
  ],
}));

test.serial(`${engine}: a relay delivers what stream.pipeline delivers, byte for byte`, async (t) => {
  t.timeout(280_000);
  const make = await workshop(t);
  await leavesNothing(t, () =>
    check(t, {
      few: 320,
      schedule: handOver,
      regressions: destroyedBehindItsEnd,
      run: (schedule) => runHandOver(make, schedule),
    }),
  );
});
