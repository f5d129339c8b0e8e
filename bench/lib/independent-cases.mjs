// The cases with independent programs: iperf3, wrk and curl, with the figures that they report.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { StepError } from '../../scripts/lib/run.mjs';
import { bigFile, smallFile } from './independent-servers.mjs';

const GiB = 2 ** 30;
const execute = promisify(execFile);

/**
 * The cases. `run` takes the port of a relay, and whether this is the warm-up. It resolves with the number of units that the
 * program reports, and fails if the program reports an error or too few bytes.
 */
export function independentCases({ duration, only }) {
  const cases = [
    iperf('iperf3, 1 stream, up', duration, []),
    iperf('iperf3, 1 stream, down', duration, ['--reverse']),
    iperf('iperf3, 1 stream, both ways', duration, ['--bidir']),
    iperf('iperf3, 8 streams, up', duration, ['--parallel', '8']),
    iperf('iperf3, 8 streams, down', duration, ['--parallel', '8', '--reverse']),
    iperf('iperf3, 8 streams, both ways', duration, ['--parallel', '8', '--bidir']),
    {
      work: 'wrk',
      name: 'wrk',
      title: `wrk, 32 connections, nginx serves ${smallFile.bytes} B`,
      per: 'request',
      server: 'nginx',
      run: (port, warmUp) => wrk(port, warmUp ? 1 : duration),
    },
    {
      work: 'curl',
      name: 'curl',
      title: 'curl downloads 1 GiB from nginx',
      per: 'GiB',
      server: 'nginx',
      run: (port, warmUp) => curl(port, warmUp ? smallFile : bigFile),
    },
  ];
  const chosen = cases.filter(({ name }) => !only || name.includes(only));
  if (chosen.length === 0) throw new StepError('no case matches --only');
  return chosen;
}

function iperf(title, duration, options) {
  return {
    work: 'iperf3',
    name: title.replaceAll(/[ ,]+/g, '-'),
    title,
    per: 'GiB',
    server: 'iperf3',
    run: async (port, warmUp) => {
      const time = ['--time', `${warmUp ? 1 : duration}`];
      // The server runs one test at a time, and may still be ending the last one.
      const { end } = await patiently(() =>
        run('iperf3', ['--client', '127.0.0.1', '--port', `${port}`, '--json', ...time, ...options]),
      );
      const directions = [end.sum_received, end.sum_received_bidir_reverse].filter(Boolean);
      const bytes = directions.reduce((sum, direction) => sum + direction.bytes, 0);
      if (!(bytes > 0)) throw new Error('iperf3: nothing was received');
      return { units: bytes / GiB, seconds: end.sum_received.seconds };
    },
  };
}

async function patiently(attempt, tries = 5) {
  try {
    return JSON.parse(await attempt());
  } catch (error) {
    const busy = /busy/.test(`${error.stdout}`);
    if (!busy || tries === 1) throw new Error(complaint(error), { cause: error });
    await new Promise((resolve) => setTimeout(resolve, 200));
    return patiently(attempt, tries - 1);
  }
}

function complaint({ stdout, message }) {
  return /"error":\s*"(.*)"/.exec(`${stdout}`)?.[1] ?? message.split('\n')[0];
}

async function wrk(port, seconds) {
  const url = `http://127.0.0.1:${port}/${smallFile.name}`;
  const text = await run('wrk', [
    '--threads',
    '1',
    '--connections',
    '32',
    '--duration',
    `${seconds}s`,
    '--latency',
    url,
  ]);
  const trouble = /^\s*(Socket errors|Non-2xx).*$/m.exec(text);
  if (trouble) throw new Error(`wrk: ${trouble[0].trim()}`);
  const requests = Number(/(\d+) requests in/.exec(text)?.[1]);
  if (!(requests > 0)) throw new Error('wrk: no request was answered');
  const percentile = (name) => microseconds(new RegExp(`${name}%\\s+([\\d.]+)(us|ms|s)`).exec(text));
  return { units: requests, seconds, latency: { p50: percentile(50), p99: percentile(99) } };
}

function microseconds(found) {
  return found ? Number(found[1]) * { us: 1, ms: 1e3, s: 1e6 }[found[2]] : undefined;
}

async function curl(port, { name, bytes }) {
  const format = '%{http_code} %{size_download} %{time_total}';
  const url = `http://127.0.0.1:${port}/${name}`;
  const text = await run('curl', [
    '--silent',
    '--show-error',
    '--output',
    '/dev/null',
    '--write-out',
    format,
    url,
  ]);
  const [status, size, seconds] = text.split(' ').map(Number);
  if (status !== 200 || size !== bytes) throw new Error(`curl: status ${status}, ${size} of ${bytes} bytes`);
  return { units: size / GiB, seconds };
}

async function run(program, args) {
  const { stdout } = await execute(program, args, { timeout: 60_000, maxBuffer: 2 ** 24 });
  return stdout;
}
