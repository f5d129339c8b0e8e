// npm run soak -- --minutes 10 [--clients 40]: sends mixed traffic through relays in this process, with churn, aborts, resets
// and limits, and watches descriptors, memory, pipes and running transfers. Prints a line every ten seconds and a verdict.
// Exits with status 1 if a resource keeps growing, a byte was altered or a transfer is left over.
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { capabilities, stats } from 'fdsplice';

import { Traffic } from './lib/soak-traffic.mjs';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '10' }, clients: { type: 'string', default: '40' } },
});
const minutes = Number(values.minutes);
const clients = Number(values.clients);
if (!(minutes > 0) || !(clients > 0)) {
  console.error('usage: npm run soak -- [--minutes N] [--clients N], both above 0');
  process.exit(2);
}

const MiB = 1 << 20;
const collect = globalThis.gc ?? (() => {});

/** The figures that may not grow from one quiet moment to the next. */
function look() {
  collect();
  const { rss, heapUsed, external } = process.memoryUsage();
  const { active, pipes } = stats();
  return {
    descriptors: readdirSync('/proc/self/fd').length - 2 * (pipes.leased + pipes.idle),
    rss,
    heap: heapUsed + external,
    active,
    leased: pipes.leased,
    idle: pipes.idle,
  };
}

/** Takes the figures at a moment without running transfers. */
async function quiet(traffic) {
  await traffic.pause();
  const deadline = performance.now() + 30_000;
  while (stats().active > 0 && performance.now() < deadline) await sleep(50);
  await sleep(300);
  const seen = look();
  traffic.resume();
  return seen;
}

const shown = ({ descriptors, rss, heap, active, leased, idle }) =>
  `descriptors ${descriptors}  rss ${(rss / MiB).toFixed(1)} MiB  heap ${(heap / MiB).toFixed(1)} MiB  ` +
  `active ${active}  pipes ${leased}+${idle}`;

console.log(
  `fdsplice soak, ${minutes} min, ${clients} clients, kernel ${capabilities().kernel}, Node ${process.version}`,
);
if (globalThis.gc === undefined) console.log('without --expose-gc: the heap includes garbage');
const traffic = await Traffic.start(clients);
// After this time threads, buffers and compiled code exist, and nothing should grow any more.
await sleep(Math.min(20_000, (minutes * 60_000) / 6));
const looks = [await quiet(traffic)];
console.log(`first quiet moment: ${shown(looks[0])}`);
const end = performance.now() + minutes * 60_000;
while (performance.now() < end) {
  await sleep(Math.min(10_000, Math.max(0, end - performance.now())));
  const seen = await quiet(traffic);
  looks.push(seen);
  const { completed, failed, total } = stats();
  console.log(
    `${shown(seen)}  transfers ${completed}+${failed} failed  ${(total / 1024 / MiB).toFixed(2)} GiB`,
  );
}
await traffic.stop();
await sleep(500);
const last = look();
looks.push(last);

/** The growth, if the median of the last third exceeds that of the first by more than `room`. */
function grows(pick, room) {
  const third = Math.max(1, Math.floor(looks.length / 3));
  const median = (some) => some.map(pick).sort((one, other) => one - other)[Math.floor(some.length / 2)];
  const [before, behind] = [median(looks.slice(0, third)), median(looks.slice(-third))];
  return behind - before > room ? `${before} -> ${behind}` : undefined;
}

const problems = [
  ['descriptors grow', grows(({ descriptors }) => descriptors, 4)],
  ['resident memory grows', grows(({ rss }) => rss, 32 * MiB)],
  ['the heap grows', grows(({ heap }) => heap, 8 * MiB)],
  ['transfers are left over', looks.some(({ active }) => active > 0) ? String(last.active) : undefined],
  [
    'pipes are leased without a transfer',
    looks.some(({ leased }) => leased > 0) ? String(last.leased) : undefined,
  ],
  ...traffic.problems.map((problem) => ['wrong', problem]),
].filter(([, found]) => found !== undefined);

console.log(`at the end: ${shown(last)}`);
console.log(`${JSON.stringify(traffic.counts)}`);
for (const [problem, found] of problems) console.log(`${problem}: ${found}`);
console.log(problems.length === 0 ? 'verdict: nothing leaks, every byte is right' : 'verdict: FAILED');
process.exit(problems.length === 0 ? 0 : 1);
