// The report of the benchmark, made from fixed results, so that every expected number is known.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import test, { type ExecutionContext } from 'ava';

const execute = promisify(execFile);

const conditions = {
  machine: {
    ...{ processor: 'Some CPU', cores: 2, memory: 2 ** 34, kernel: '6.18.1-x', distribution: 'Some Linux' },
    ...{ user: 'root', openFiles: 20_000, loadBefore: 0.5, settings: { 'fs.pipe-max-size': '1048576' } },
  },
  counters: {
    instructions: { available: false, reason: 'not supported' },
    systemCalls: { available: true },
  },
  peers: [
    { name: 'fdsplice', about: 'ours', version: '0.1.0' },
    { name: 'other', about: 'theirs', version: '1' },
    { name: 'broken', about: 'fails', version: '2' },
    { name: 'absent', about: 'not there', missing: 'absent is not installed' },
  ],
};

const round = (round: number, peer: string, cpu: number) => ({
  ...{ round, peer, cpu, cpuUser: cpu / 4, cpuSystem: cpu / 2, rate: 2, rss: 2 ** 20, descriptors: 9 },
  ...{ switches: 3, rssPerConnection: 4096, descriptorsPerConnection: 4 },
});

const rounds = [
  ...[round(0, 'fdsplice', 0.1), round(0, 'other', 0.05), { round: 0, peer: 'broken', error: 'lost a byte' }],
  ...[round(1, 'fdsplice', 0.3), round(1, 'other', 0.6), { round: 1, peer: 'broken', error: 'lost two' }],
];

const results = {
  startedAt: '2026-01-02T03:04:05.000Z',
  seconds: 120,
  ...conditions,
  settings: { rounds: 2, network: 'own' },
  cases: [
    { work: 'bulk', name: 'bulk-1-up', title: 'bulk, 1 stream', per: 'GiB', rounds },
    { work: 'idle', name: 'idle-9', title: '9 idle connections', per: 'round trip', rounds },
    { work: 'novel', name: 'novel-1', title: 'work of a kind to come', per: 'file', rounds },
    {
      ...{
        work: 'files',
        name: 'files-4',
        title: 'HTTP GET of files of 4 B, warm, 9 requests',
        per: 'request',
      },
      ...{ peers: ['fdsplice', 'other'], absent: { broken: 'serves no files' } },
      rounds: rounds.map((round) => ({ ...round, bytesPerSecond: 3 * 2 ** 20 })),
    },
    ...[64, 65_536].map((size) => ({
      ...{ work: 'crossover', name: `crossover-${size}`, title: `${size} bytes`, per: 'message', rounds },
    })),
  ],
};

async function report(
  t: ExecutionContext,
  reported: unknown = results,
): Promise<(name: string) => Promise<string>> {
  const directory = await mkdtemp(join(tmpdir(), 'fdsplice-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const file = join(directory, 'results.json');
  await writeFile(file, JSON.stringify(reported));
  await execute(process.execPath, ['bench/charts.mjs', file, '--to', directory]);
  return (name) => readFile(join(directory, name), 'utf8');
}

test('the table of a run also names failed and missing peers, and cases in which fdsplice loses', async (t) => {
  const table = await (await report(t))('table.md');
  t.regex(table, /Some CPU, 2 cores, 16\.0 GiB; Linux 6\.18\.1-x, Some Linux/);
  t.regex(table, /fs\.pipe-max-size = 1048576/);
  t.regex(
    table,
    /\| other \| 0\.325 \(0\.050–0\.600\) \| 1\.25 \|/,
    'median, spread, and median of 0.5 and 2',
  );
  t.regex(table, /absent is MISSING: absent is not installed/);
  t.regex(table, /broken FAILED in round 2: lost two/);
  const files = /### HTTP GET.*?(?=\n### )/s.exec(table)![0];
  t.regex(files, /CPU µs\/request.*MiB\/s/);
  t.regex(
    files,
    /\| 3 \(3–3\) \| 1\.00 \|/,
    'a column of bytes if the unit of work is not an amount of bytes',
  );
  t.regex(files, /absent \(serves no files\): broken/);
  t.notRegex(files, /MISSING/, 'a peer without a part in the case is not called missing');
  t.notRegex(table, /not supported \|/, 'no column for a counter that is not available');
});

test('each kind of work of a run gets a chart with every peer', async (t) => {
  const read = await report(t);
  const bulk = await read('bulk.svg');
  for (const text of ['fdsplice', 'other', 'broken', 'failed', '0.200 ×1.00', '0.325 ×1.25']) {
    t.true(bulk.includes(`>${text}<`) || bulk.includes(`>${text.replace(' ', '  ')}<`), text);
  }
  t.regex(bulk, /not measured: absent/);
  t.regex(bulk, /loopback; 2 rounds on 2026-01-02/);
  t.regex(bulk, /prefers-color-scheme:dark/);
  t.regex(await read('idle.svg'), />4\.0 {1,2}×1\.00</, 'memory, not time');
  t.regex(await read('novel.svg'), /work of a kind to come/);
  const crossover = await read('crossover.svg');
  t.regex(crossover, />64 KiB</);
  t.regex(crossover, />fdsplice \(adaptive\)</);
  const files = await read('files.svg');
  t.regex(files, />files of 4 B, warm</);
  t.notRegex(files, /not measured/, 'a peer without a part in the work is not called missing');
  for (const name of ['bulk', 'idle', 'novel', 'files', 'crossover']) {
    const svg = await read(`${name}.svg`);
    t.regex(svg, /^<svg [^]*<\/svg>\n$/);
    t.true(svg.length < 60_000, `${name} takes ${svg.length} bytes`);
  }
});

test('a run cannot be continued on another kernel or with another version of a peer', async (t) => {
  const module = '../../bench/lib/results.mjs';
  const { checkSameConditions } = (await import(module)) as {
    checkSameConditions: (before: typeof conditions, now: typeof conditions) => void;
  };
  t.notThrows(() => checkSameConditions(conditions, structuredClone(conditions)));
  const kernel = structuredClone(conditions);
  kernel.machine.kernel = '6.19.0';
  t.throws(() => checkSameConditions(conditions, kernel), {
    message: /kernel was 6\.18\.1-x and is 6\.19\.0/,
  });
  const version = structuredClone(conditions);
  version.peers[1]!.version = '1.1';
  t.throws(() => checkSameConditions(conditions, version), { message: /other was 1 and is 1\.1/ });
});

test('the table names the number of workers, and a run cannot be continued with another one', async (t) => {
  const module = '../../bench/lib/results.mjs';
  const { checkSameWorkers } = (await import(module)) as {
    checkSameWorkers: (before: { settings: { workers?: number } }, asked?: number) => void;
  };
  const [two, unset] = [{ settings: { workers: 2 } }, { settings: {} }];
  t.notThrows(() => checkSameWorkers(two, 2));
  t.notThrows(() => checkSameWorkers(two), 'without the option, the setting of the first part');
  t.throws(() => checkSameWorkers(two, 1), { message: /--workers was 2 and is 1/ });
  t.throws(() => checkSameWorkers(unset, 1), { message: /--workers was not given and is 1/ });
  const read = await report(t, { ...results, settings: { ...results.settings, workers: 1 } });
  t.regex(await read('table.md'), /peers with 1 worker\n/);
  t.regex(await (await report(t))('table.md'), /peers with their default number of workers\n/);
});

test('the table of a set has its bounds: paired ratios, absolute figures, and cases that were not measured', async (t) => {
  const pair = (index: number, mine: number, theirs: number, peer: string) => [
    { ...round(index, 'fdsplice-rust', mine), rssPerConnection: 3 * 1024 },
    round(index, peer, theirs),
  ];
  // The median of the ratios 2, 1.1 and 0.25 exceeds 1.05. The ratio of the medians, 2 / 2, does not.
  const bulk = [2, 2.2, 1].flatMap((mine, index) => pair(index, mine, [1, 2, 4][index]!, 'tokio-splice2'));
  const churn = [2, 9].flatMap((mine, index) => pair(index, mine, 10, 'haproxy-splice'));
  const set = {
    ...results,
    settings: { rounds: 3, network: 'own', set: 'core', reference: 'fdsplice-rust' },
    cases: [
      { work: 'bulk', name: 'bulk-8-up', title: 'bulk, 8 streams', per: 'GiB', rounds: bulk },
      { work: 'churn', name: 'churn-100', title: 'short ones', per: 'connection', rounds: churn },
      { work: 'idle', name: 'idle-1000', title: 'idle', per: 'round trip', rounds: bulk },
    ],
  };
  const table = await (await report(t, set))('table.md');
  const line = (...cells: string[]) => `| ${cells.join(' | ')} |`;
  for (const expected of [
    line('bulk-8-up', 'CPU', 'fdsplice-rust', 'at most 1.05 × tokio-splice2', '1.10', 'EXCEEDED'),
    line('bulk-100-up', 'CPU', 'fdsplice-rust', 'at most 1.05 × tokio-splice2', '–', 'not measured'),
    line('churn-100', 'CPU', 'fdsplice-rust', 'at most 0.95 × haproxy-splice', '0.55', 'holds'),
    line('idle-1000', 'KiB/conn', 'fdsplice-rust', 'at most 2.5', '3.00', 'EXCEEDED'),
  ]) {
    t.true(table.includes(expected), `${expected}\n${table}`);
  }
  t.regex(table, /×ours: median of the ratios to fdsplice-rust/);
  t.notRegex(await (await report(t))('table.md'), /Bounds/);
});

test('the benchmark reports a peer or a user that does not exist before it builds anything', async (t) => {
  for (const [option, expected] of [
    ['--peers', /^[^\n]*--peers nobodys: there is fdsplice, [^\n]*\n$/],
    ['--user', /^[^\n]*there is no user nobodys\n$/],
  ] as const) {
    const run = execute(process.execPath, ['bench/run.mjs', option, 'nobodys']);
    const { stderr, code } = (await t.throwsAsync(run)) as unknown as { stderr: string; code: number };
    t.is(code, 1);
    t.regex(stderr, expected);
  }
});
