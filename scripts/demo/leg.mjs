// One half of the demo: a transfer through one relay.
import { fileURLToPath } from 'node:url';
import { Presets, SingleBar } from 'cli-progress';
import { StepError } from '../lib/run.mjs';
import { MiB } from './data.mjs';
import { Child } from './process.mjs';

const script = (name) => fileURLToPath(new URL(name, import.meta.url));

/**
 * Moves `bytes` each way between a client and an origin through a relay, each in its own process, and checks the counts
 * and hashes. `command` returns script and arguments of a relay to the given port.
 */
export async function leg(name, bytes, command) {
  console.log(`\n${name}: ${bytes / MiB} MiB each way at the same time`);
  const origin = new Child('origin', script('origin.mjs'), [String(bytes)]);
  const { port: originPort } = await origin.event('listening');
  const relay = new Child(name, ...command(originPort));
  const { address } = await relay.event('listening');
  const cpuBefore = relay.cpuSeconds();

  const bar = progressBar(bytes);
  const relayPort = address.slice(address.lastIndexOf(':') + 1);
  const client = new Child('client', script('client.mjs'), [relayPort, String(bytes)], (event) => {
    if (event.event === 'progress') {
      bar.update(Math.round((event.sent + event.received) / MiB));
    }
  });
  let atClient, atOrigin, connection;
  try {
    [atClient, atOrigin, connection] = await Promise.all([
      client.event('done'),
      origin.event('done'),
      relay.event('connection'),
    ]);
  } finally {
    bar.stop();
  }
  const cpu = relay.cpuSeconds() - cpuBefore;
  await relay.stop();

  checkAndPrint('client to origin', bytes, atClient.sent, connection.tx, atOrigin.received);
  checkAndPrint('origin to client', bytes, atOrigin.sent, connection.rx, atClient.received);
  if (connection.error !== null) throw new StepError(`${name} failed: ${connection.error.message}`);
  return { cpu, engine: connection.engine };
}

function checkAndPrint(direction, bytes, sent, relayed, received) {
  const counts = `sent ${sent.bytes}  relayed ${relayed}  received ${received.bytes}`;
  const same = [sent.bytes, relayed, received.bytes].every((count) => count === bytes);
  if (!same) throw new StepError(`${direction}: ${counts}, wanted ${bytes}`);
  if (sent.sha256 !== received.sha256) {
    throw new StepError(`${direction}: sent ${sent.sha256}, received ${received.sha256}`);
  }
  console.log(`  ${direction}  ${counts}  SHA-256 equal ${sent.sha256.slice(0, 16)}…`);
}

/** A progress bar on a terminal; a line every few seconds otherwise. */
function progressBar(bytes) {
  const bar = new SingleBar(
    {
      format: '  {bar} {percentage}%  {value} of {total} MiB  {duration_formatted}',
      barsize: 30,
      hideCursor: true,
      stream: process.stdout,
      noTTYOutput: true,
      notTTYSchedule: 3000,
    },
    Presets.shades_classic,
  );
  bar.start((2 * bytes) / MiB, 0);
  return bar;
}
