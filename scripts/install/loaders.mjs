// Other programs than Node that load the package: test runners, bundlers and what is made of bundles.
import { join } from 'node:path';
import { bundle, bundlers, putBeside } from './bundlers.mjs';
import { executable } from './executable.mjs';
import { hasReason, isNative, isStreams } from './expect.mjs';
import { runners, runTests } from './runners.mjs';

const full = process.env.FDSPLICE_FULL === '1';

/** Loads the package of a consumer in each of them. */
export async function load(suite, { consumer, tools, scratch }) {
  await suite.check('two copies of the package work in one process', async () =>
    isNative(await consumer.run('copies.cjs')),
  );
  consumer.addNodeTypes();
  for (const name of runners) {
    await suite.check(`${name} loads the package`, async () =>
      isNative(await runTests(name, consumer, tools)),
    );
  }
  for (const { name, isSlow } of bundlers) {
    if (isSlow && !full) continue;
    const folder = join(scratch, name.replaceAll(' ', '-'));
    await useBundle(suite, { name: `the bundle of ${name}`, consumer, folder }, async () => {
      const file = await bundle(name, { consumer, folder, tools });
      return () => consumer.run(file);
    });
  }
  if (!full) return;
  const folder = join(scratch, 'executable');
  await useBundle(suite, { name: 'a single executable application', consumer, folder }, async () => {
    const made = await bundle('esbuild to CommonJS', { consumer, folder, tools });
    const file = await executable({ bundle: made, folder, binary: consumer.binary, tools });
    return () => consumer.execute(file);
  });
}

/** Uses a bundle in a folder of its own, and then with the native package beside it. */
async function useBundle(suite, { name, consumer, folder }, make) {
  let run;
  await suite.check(`${name} works through streams and has the reason`, async () => {
    run = await make();
    const result = await run();
    isStreams(result);
    return hasReason(result, 'is not installed where');
  });
  if (run === undefined) return;
  await suite.check(`${name} is native with node_modules/@fdsplice beside it`, async () => {
    putBeside(folder, consumer);
    return isNative(await run());
  });
}
