// npm run demo: builds, then moves 1 GiB each way through the relay and through Node's own pipe, and compares their CPU
// time.
import { prepare } from './lib/prepare.mjs';
import { runMain } from './lib/run.mjs';

await runMain(async () => {
  await prepare();
  // Imported late, because it needs the packages that were just installed.
  const { demo } = await import('./demo/run.mjs');
  await demo();
});
