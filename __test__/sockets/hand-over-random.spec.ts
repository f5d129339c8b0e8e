// Sockets in random states are handed over while they keep changing. A relay must deliver what `stream.pipeline` delivers.
// FDSPLICE_SEED repeats a run.
import test from 'ava';

import { engine } from '../helpers/engine.js';
import { leavesNothing } from '../helpers/left.js';
import { check } from '../helpers/random/check.js';
import { type HandOver, handOver } from '../helpers/random/hand-over-schedule.js';
import { runHandOver } from '../helpers/random/hand-overs.js';
import { workshop } from '../helpers/random/sockets.js';

/** After these steps, `stream.pipeline` of Node 22 and later never settles in one direction. */
const destroyedBehindItsEnd: HandOver[] = (['destroy', 'intrude'] as const).map((ending) => ({
  transports: ['tcp', 'unix'],
  before: [
    { do: 'write', side: 1, bytes: 2 << 20 },
    { do: 'send', side: 0, bytes: 1 },
    { do: 'take', side: 0, bytes: 2 << 20, putBack: 0, by: 'read' },
    { do: 'send', side: 0, bytes: 31_236 },
  ],
  during: [
    { do: 'half-end', side: 0 },
    { do: 'wait', ms: 2 },
    { do: ending, side: 0 },
  ],
}));

/** The same for both directions, since Node 24. */
const destroyedWithBytesInItsBuffer: HandOver = {
  transports: ['unix', 'tcp'],
  before: [
    { do: 'write', side: 0, bytes: 57_058 },
    { do: 'send', side: 1, bytes: 784 },
    { do: 'send', side: 0, bytes: 895 },
    { do: 'take', side: 0, bytes: 4_725, putBack: 0, by: 'listen' },
    { do: 'wait', ms: 1 },
    { do: 'half-end', side: 0 },
    { do: 'half-end', side: 1 },
    { do: 'take', side: 1, bytes: 445, putBack: 947, by: 'read' },
    { do: 'cork', side: 0 },
  ],
  during: [{ do: 'intrude', side: 1 }],
};

test.serial(`${engine}: a relay delivers what stream.pipeline delivers, byte for byte`, async (t) => {
  t.timeout(280_000);
  const make = await workshop(t);
  await leavesNothing(t, () =>
    check(t, {
      few: 320,
      schedule: handOver,
      regressions: [...destroyedBehindItsEnd, destroyedWithBytesInItsBuffer],
      run: (schedule) => runHandOver(make, schedule),
    }),
  );
});
