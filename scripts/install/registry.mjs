// An npm registry on this machine.
import { randomInt } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { output, serve } from './process.mjs';

/**
 * Starts a registry on this machine. It serves the packages that are published to it, and forwards requests for other
 * packages to the configured registry. Resolves with its address and a function that stops it.
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
      throw new Error(`the registry did not start:\n${server.output()}`);
    }
    await sleep(100);
  }
  return { url, stop: () => server.stop() };
}

function configuration(folder, upstream) {
  const ours = { access: '$all', publish: '$all' };
  return {
    storage: join(folder, 'storage'),
    uplinks: { upstream: { url: upstream, timeout: '60s', max_fails: 10 } },
    // Without a proxy for our packages: a platform package that is not published here does not exist.
    packages: { fdsplice: ours, '@fdsplice/*': ours, '**': { access: '$all', proxy: 'upstream' } },
    max_body_size: '100mb',
    log: { type: 'stdout', format: 'pretty', level: 'warn' },
  };
}

/**
 * A port that is free, because verdaccio does not report the port that it gets for port 0. It is below those that the
 * system hands out, so that no other program gets it meanwhile.
 */
async function freePort() {
  for (;;) {
    const port = randomInt(20_000, 30_000);
    const probe = createServer().listen(port, '127.0.0.1');
    try {
      await once(probe, 'listening');
    } catch (error) {
      if (error.code === 'EADDRINUSE') continue;
      throw error;
    }
    probe.close();
    await once(probe, 'close');
    return port;
  }
}

async function answers(url) {
  try {
    return (await fetch(`${url}-/ping`)).ok;
  } catch {
    return false;
  }
}
