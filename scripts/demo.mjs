// npm run demo: builds what is needed, then moves a lot of bytes through the relay and through Node's own pipe.
import { prepare } from './lib/prepare.mjs';
import { runMain } from './lib/run.mjs';

await runMain(async () => {
  await prepare();
  // Not before: it needs what has just been installed.
  const { demo } = await import('./demo/run.mjs');
  await demo();
});
