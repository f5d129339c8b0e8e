// The charts of a run as specifications of Vega-Lite: bars for each work, lines for the crossover.
import { cpuColumn, memoryColumn } from './columns.mjs';
import { machineLine } from './report.mjs';
import { figureOf, playersOf, referenceOf } from './table.mjs';

const known = [
  { name: 'bulk', title: 'Bulk: CPU seconds of the relay per GiB', column: cpuColumn },
  {
    name: 'pingpong',
    title: 'Ping-pong: CPU microseconds of the relay per round trip',
    column: cpuColumn,
  },
  {
    name: 'churn',
    title: 'Connect, transfer, close: CPU microseconds of the relay per connection',
    column: cpuColumn,
  },
  { name: 'idle', title: 'Idle: resident memory of the relay, KiB per connection', column: memoryColumn },
  {
    name: 'mixed',
    title: 'Messages, bulk and slow readers together: CPU seconds of the relay per run',
    column: cpuColumn,
  },
  { name: 'limited', title: 'Under a rate limit: CPU seconds of the relay per GiB', column: cpuColumn },
  { name: 'files', title: 'Files over HTTP: CPU microseconds of the server per request', column: cpuColumn },
  { name: 'copies', title: 'File to file: CPU microseconds per file', column: cpuColumn },
];

/** Names of the lines in the crossover chart, which compares ways to move bytes rather than peers. */
const engines = {
  fdsplice: 'fdsplice (adaptive)',
  'fdsplice-rw': 'fdsplice-rw (read and write)',
  'bare-splice': 'bare-splice (splice)',
  'bare-rw': 'bare-rw (read and write)',
};

/** A chart for each work of a run. */
export function chartsOf(results) {
  const works = [...new Set(results.cases.map(({ work }) => work))];
  return works.map((name) => {
    if (name === 'crossover') return crossover(results);
    const plain = { name, title: `${name}: CPU time of the server or relay`, column: cpuColumn };
    return bars(results, known.find((work) => work.name === name) ?? plain);
  });
}

/** Peers as bars, shorter is better, with one small chart for each case. */
function bars(results, { name, title, column }) {
  const cases = results.cases.filter(({ work }) => work === name);
  const values = cases.flatMap((measured) => {
    const shown = column(measured);
    return present(results, measured).map((peer) => {
      const figure = figureOf(shown, measured.rounds, peer, referenceOf(results));
      return {
        case: shorten(measured.title),
        peer,
        ours: peer === referenceOf(results),
        ...described(figure, shown),
      };
    });
  });
  const order = results.peers.map(({ name }) => name);
  const y = {
    field: 'peer',
    type: 'nominal',
    sort: order,
    axis: { title: null, ticks: false, domain: false },
  };
  const quantity = (field, more) => ({ field, type: 'quantitative', ...more });
  const unit = column(cases[0]).head;
  return {
    name,
    spec: {
      ...frame(title, { results, cases }, [
        'Shorter is better. Bar: median; line: from least to most.',
        `×: median of the ratios to ${referenceOf(results)}, round by round.`,
      ]),
      data: { values },
      facet: { field: 'case', type: 'nominal', sort: cases.map((one) => shorten(one.title)), title: null },
      columns: Math.min(cases.length, 3),
      resolve: { scale: { x: 'independent' } },
      spec: {
        width: 190,
        height: { step: 17 },
        encoding: { y },
        layer: [
          {
            mark: { type: 'bar', height: 11 },
            encoding: {
              x: quantity('median', {
                scale: { domainMin: 0 },
                axis: { title: unit, tickCount: 4 },
              }),
              color: {
                field: 'ours',
                type: 'nominal',
                legend: null,
                scale: { domain: [true, false], range: [accent, neutral] },
              },
            },
          },
          {
            mark: { type: 'rule', strokeWidth: 1.5 },
            encoding: { x: quantity('least'), x2: { field: 'most' } },
          },
          {
            mark: { type: 'text', align: 'left', dx: 4, fontSize: 9.5, clip: false },
            encoding: { x: quantity('end'), text: { field: 'label' } },
          },
        ],
      },
    },
  };
}

/** Cost by message size: shows from which size on the pipe is cheaper than the buffer. */
function crossover(results) {
  const cases = results.cases.filter(({ work }) => work === 'crossover');
  const values = cases.flatMap((measured) =>
    present(results, measured).flatMap((peer) => {
      const figure = figureOf(cpuColumn(measured), measured.rounds, peer, referenceOf(results));
      return figure ? [{ bytes: bytesOf(measured), engine: engines[peer] ?? peer, ...figure }] : [];
    }),
  );
  const order = results.peers.map(({ name }) => engines[name] ?? name);
  const drawn = order.filter((name) => values.some(({ engine }) => engine === name));
  const sizes = [...new Set(values.map(({ bytes }) => bytes))].sort((a, b) => a - b);
  const x = {
    field: 'bytes',
    type: 'quantitative',
    scale: { type: 'log', base: 2 },
    axis: { title: 'message size', values: sizes, labelExpr: sizeLabel, labelOverlap: false },
  };
  return {
    name: 'crossover',
    spec: {
      ...frame(
        'Crossover of splice with read and write: CPU microseconds per round trip, by message size',
        { results, cases },
        ['Lower is better. Medians.'],
      ),
      data: { values },
      width: 640,
      height: 300,
      encoding: {
        x,
        y: {
          field: 'median',
          type: 'quantitative',
          scale: { type: 'log', nice: false },
          axis: { title: cpuColumn(cases[0]).head },
        },
        color: {
          field: 'engine',
          type: 'nominal',
          scale: { domain: drawn, range: palette },
          legend: { title: null, labelLimit: 0 },
        },
        shape: { field: 'engine', type: 'nominal', scale: { domain: drawn } },
      },
      layer: [{ mark: { type: 'line' } }, { mark: { type: 'point', filled: true, size: 45 } }],
    },
  };
}

/** Names of the peers with rounds in this case, in the order of the tables. */
function present({ peers }, { rounds }) {
  return peers.map(({ name }) => name).filter((name) => rounds.some(({ peer }) => peer === name));
}

function described(figure, { digits }) {
  if (figure === undefined) return { median: 0, least: 0, most: 0, end: 0, label: 'failed' };
  const { median, least, most, times } = figure;
  const label =
    median.toFixed(median < 1000 ? digits : 0) + (times === undefined ? '' : `  ×${times.toFixed(2)}`);
  return { median, least, most, end: Math.max(most, 0), label };
}

/** The message size of a case: its field `size`, or the first number in its name (`pingpong-64-32`). */
function bytesOf({ name, size }) {
  return size ?? Number(/\d+/.exec(name)?.[0]);
}

function shorten(title) {
  return title
    .replace(/^(bulk, |HTTP GET of |file to file, )/, '')
    .replace(/: 95 % small messages, (.*), 1 % slow readers; .*?(, as the user .*)?$/, '; $1$2')
    .replace(/, \d+ requests?/, '')
    .replace('as the user ', '')
    .replace('; 8 at a time', '')
    .replace(' connections', ' conns')
    .replace(', one of them making round trips of 64 B', '');
}

/** Number of rounds of the cases, as text; it may be lower than requested. */
function roundsOf(cases) {
  const counts = cases.map(({ rounds }) => Math.max(...rounds.map(({ round }) => round)) + 1);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return `${least === most ? most : `${least} to ${most}`} round${most === 1 ? '' : 's'}`;
}

function frame(title, { results, cases }, more) {
  const players = new Set(cases.flatMap((measured) => playersOf(measured, results)));
  const missing = [...players].filter(({ missing }) => missing).map(({ name }) => name);
  const absent = missing.length > 0 ? [`Not installed, so not measured: ${missing.join(', ')}.`] : [];
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: {
      text: title,
      subtitle: [
        ...more,
        `${machineLine(results)}, loopback; ${roundsOf(cases)} on ${results.startedAt.slice(0, 10)}.`,
        ...absent,
      ],
      anchor: 'start',
      offset: 14,
    },
    padding: { left: 12, top: 12, right: 60, bottom: 12 },
    config,
  };
}

const accent = '#1f6feb';
const neutral = '#8b949e';
const palette = [accent, '#d1742f', '#3f9e5a', '#a371f7', neutral, '#c9a227', '#d6336c'];
const sizeLabel =
  "datum.value >= 1048576 ? datum.value / 1048576 + ' MiB' : datum.value >= 1024 ? datum.value / 1024 + ' KiB' : datum.value + ' B'";

const config = {
  // Descriptions of every mark would be most of the file; the tables contain the same figures.
  aria: false,
  font: 'system-ui, sans-serif',
  view: { stroke: null },
  axis: { labelFontSize: 10, titleFontSize: 10, titleFontWeight: 'normal', labelLimit: 200 },
  axisX: { grid: true },
  header: { labelFontSize: 11, labelFontWeight: 'bold', labelAnchor: 'start', labelLimit: 0 },
  title: { fontSize: 15, subtitleFontSize: 11, subtitlePadding: 6 },
};
