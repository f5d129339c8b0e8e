// The comparison that `npm run demo` makes.
import { fileURLToPath } from 'node:url';
import { StepError } from '../lib/run.mjs';
import { GiB } from './data.mjs';
import { leg } from './leg.mjs';
import { killAll } from './process.mjs';

// In each direction, at the same time.
const BYTES = GiB;
const TIME_LIMIT = 10 * 60_000;

/** Runs both relays, one after the other, with the same load. A wrong byte or count fails the demo. */
export async function demo() {
  const limit = setTimeout(() => {
    console.error('the demo takes longer than 10 minutes');
    process.exit(1);
  }, TIME_LIMIT);
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

  try {
    await compare();
  } finally {
    clearTimeout(limit);
    killAll();
  }
}

async function compare() {
  const relay = await leg('fdsplice relay', BYTES, (port) => [
    fileURLToPath(new URL('../../dist/lib/cli/main.js', import.meta.url)),
    ['relay', '--json', '127.0.0.1:0', `127.0.0.1:${port}`],
  ]);
  if (relay.engine !== 'native') throw new StepError(`the relay used its ${relay.engine} engine`);
  const pipe = await leg('Node socket.pipe', BYTES, (port) => [
    fileURLToPath(new URL('pipe-relay.mjs', import.meta.url)),
    [String(port)],
  ]);

  console.log(`
CPU time of the relay process while it moved ${(2 * BYTES) / GiB} GiB (user + system)
  fdsplice relay    ${relay.cpu.toFixed(2)} s
  Node socket.pipe  ${pipe.cpu.toFixed(2)} s
  ratio             ${(pipe.cpu / relay.cpu).toFixed(1)} (pipe to relay)`);
}
