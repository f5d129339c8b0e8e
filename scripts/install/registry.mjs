import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { output, serve } from './process.mjs';

/**
 * A registry of our own on this machine: it holds what is published to it, and asks the configured registry for the
 * rest. Resolves with its address and how to stop it.
 */
export async function startRegistry(folder, binary, verdaccio) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/`;
  const upstream = (await output('npm', ['config', 'get', 'registry'])).trim();
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(configuration(folder, upstream)));
  const args = [verdaccio, '--config', join(folder, 'config.json'), '--listen', url];
  const server = serve(binary, args, { cwd: folder, env: process.env });
  const deadline = performance.now() + 60_000;
  while (!(await answers(url))) {
    if (server.hasEnded() || performance.now() > deadline) {
      await server.stop();
      throw new Error(`the registry did not start:\n${server.said()}`);
    }
    await sleep(100);
  }
  return { url, stop: () => server.stop(), said: () => server.said() };
}

function configuration(folder, upstream) {
  const ours = { access: '$all', publish: '$all' };
  return {
    storage: join(folder, 'storage'),
    uplinks: { upstream: { url: upstream, timeout: '60s', max_fails: 10 } },
    // Ours are never looked for elsewhere: a platform package that is not published here does not exist.
    packages: { fdsplice: ours, '@fdsplice/*': ours, '**': { access: '$all', proxy: 'upstream' } },
    max_body_size: '100mb',
    log: { type: 'stdout', format: 'pretty', level: 'warn' },
  };
}

/** The port of a listener that has just been closed: verdaccio cannot tell which it got when asked for any. */
async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

async function answers(url) {
  try {
    return (await fetch(`${url}-/ping`)).ok;
  } catch {
    return false;
  }
}
