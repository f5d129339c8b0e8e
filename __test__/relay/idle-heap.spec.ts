// The memory that an idle relay adds to its two sockets in JavaScript. Garbage is collected before each figure, so it is the
// same on a busy machine.
import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { nativeTest } from '../helpers/engine.js';

/** Prints the bytes of heap that each of 500 idle pairs of sockets takes, before and after they are relayed. */
const PROGRAM = `
  import net from 'node:net';
  import { relay } from 'fdsplice';
  const PAIRS = 500;
  const options = { allowHalfOpen: true, pauseOnConnect: true };
  const accepted = [];
  const server = net.createServer(options, (socket) => accepted.push(socket));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const pairs = async (count) => {
    const made = [];
    for (let index = 0; index < count; index += 1) {
      const ends = [0, 1].map(() => net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }).pause());
      await Promise.all(ends.map((end) => new Promise((resolve) => end.once('connect', resolve))));
      made.push(ends);
    }
    return made;
  };
  const heap = async () => {
    for (let round = 0; round < 4; round += 1) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    return process.memoryUsage().heapUsed;
  };
  // What the first relays load and compile is no memory of the measured ones.
  const others = (await pairs(100)).map(([a, b]) => relay(a, b));
  const before = await heap();
  const measured = await pairs(PAIRS);
  const bare = await heap();
  const transfers = measured.map(([a, b]) => relay(a, b));
  const relayed = await heap();
  console.log(JSON.stringify({
    perPair: Math.round((bare - before) / PAIRS),
    perRelay: Math.round((relayed - bare) / PAIRS),
    running: transfers.length + others.length,
  }));
  process.exit();
`;

nativeTest('an idle relay adds less than 2 KiB of heap to its two sockets', async (t) => {
  const child = started(
    t,
    process.execPath,
    ['--expose-gc', ...nodeArguments(PROGRAM)],
    ['ignore', 'pipe', 'pipe'],
  );
  const { code, stdout, stderr } = await ended(child, 60_000);
  t.is(code, 0, stderr);
  const { perPair, perRelay, running } = JSON.parse(stdout.toString()) as Record<string, number>;
  t.log(`${perRelay} bytes for a relay, ${perPair} for two accepted and two connecting sockets`);
  t.is(running, 600);
  // With closures for each relay and properties laid over each socket, it was more than 6 KiB.
  t.true(perRelay !== undefined && perRelay < 2048);
});
