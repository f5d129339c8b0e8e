// Sockets in random states, handed over while they go on changing: what arrives is what `stream.pipeline` would have
// delivered. FDSPLICE_SEED repeats a run.
import test from 'ava';

import { engine } from './helpers/engine.js';
import { leavesNothing } from './helpers/left.js';
import { check } from './helpers/random/check.js';
import { handOver, runHandOver } from './helpers/random/hand-overs.js';
import { workshop } from './helpers/random/sockets.js';

test.serial(`${engine}: a relay delivers what stream.pipeline delivers, byte for byte`, async (t) => {
  t.timeout(280_000);
  const make = await workshop(t);
  await leavesNothing(t, () =>
    check(t, {
      few: 320,
      schedule: handOver,
      regressions: [],
      run: (schedule) => runHandOver(make, schedule),
    }),
  );
});
