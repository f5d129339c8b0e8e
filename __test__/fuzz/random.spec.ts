// Random schedules of events during a transfer, checked against simple models. FDSPLICE_SEED repeats a run.
import test from 'ava';
import type { TrafficResult } from 'fdsplice';

import { engine } from '../helpers/engine.js';
import { leavesNothing } from '../helpers/left.js';
import { check, MOST_MS } from '../helpers/random/check.js';
import { copySchedule, runCopy } from '../helpers/random/copies.js';
import { relaySchedule, runRelay } from '../helpers/random/relays.js';
import { workshop } from '../helpers/random/sockets.js';

/** The engine of this process. The models are the same for both engines. */
const ENGINE: TrafficResult['engine'] = engine;

test.serial(`${ENGINE}: a relay behaves like two queues`, async (t) => {
  t.timeout(MOST_MS + 60_000);
  const make = await workshop(t);
  await leavesNothing(t, () =>
    check(t, {
      few: 800,
      schedule: relaySchedule,
      regressions: [],
      run: (schedule) => runRelay(ENGINE, make, schedule),
    }),
  );
});

test.serial(`${ENGINE}: a copy delivers, or gives back, each byte once`, async (t) => {
  t.timeout(MOST_MS + 60_000);
  const make = await workshop(t);
  await leavesNothing(t, () =>
    check(t, {
      few: 400,
      schedule: copySchedule,
      regressions: [],
      run: (schedule) => runCopy(ENGINE, make, schedule),
    }),
  );
});
