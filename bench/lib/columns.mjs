// The columns of the tables: which figures each work shows, in which unit and with how many digits.
const byWork = {
  bulk: (unit) => [...cost(unit), throughput(unit), ...traps(unit)],
  idle: (unit) => [
    column('KiB/conn', 1, ({ rssPerConnection }) => rssPerConnection / 1024, { compared: true }),
    column('fds/conn', 2, ({ descriptorsPerConnection }) => descriptorsPerConnection),
    ...everything(unit),
  ],
  limited: (unit) => [
    ...cost(unit),
    column('% of limit', 1, ({ ofLimit }) => 100 * ofLimit),
    column('least/most', 2, ({ evenness }) => evenness),
    ...traps(unit),
  ],
  mixed: carrying,
  files: carrying,
  copies: (unit) => [...cost(unit), throughput(unit), ...traps(unit)],
};

// Independent programs: no counters, and latency only from wrk.
for (const work of ['iperf3', 'curl', 'wrk']) {
  byWork[work] = (unit) => [
    ...cost(unit).filter(({ needs }) => needs === undefined),
    ...(work === 'wrk' ? latency().slice(0, 2) : [throughput(unit)]),
  ];
}

/** Units by `per`. The default is µs, with `per` as its name. */
const units = {
  GiB: { name: 'GiB', time: 's', timeScale: 1, digits: 3, count: 'G', countScale: 1e9, callDigits: 0 },
  'round trip': { name: 'trip', callDigits: 2 },
  connection: { name: 'conn' },
  run: { time: 's', timeScale: 1, digits: 3, count: 'G', countScale: 1e9, callDigits: 0 },
};

const always = [
  column('RSS MiB', 1, ({ rss }) => rss / 2 ** 20),
  column('fds', 0, ({ descriptors }) => descriptors),
];

/**
 * The columns of a case's table. A `compared` column shows its spread, and the ratio to ours follows it. `needs` names the
 * counter that a column depends on.
 */
export function columnsOf({ work, per }) {
  return [...(byWork[work] ?? everything)(unitOf(per)), ...always];
}

/** CPU time of the relay per unit, the figure in the charts. */
export function cpuColumn({ per }) {
  return cost(unitOf(per))[0];
}

/** Memory of an idle connection. */
export function memoryColumn(measured) {
  return columnsOf(measured).find(({ head }) => head === 'KiB/conn');
}

function unitOf(per) {
  const defaults = {
    name: per,
    time: 'µs',
    timeScale: 1e6,
    digits: 1,
    count: 'k',
    countScale: 1e3,
    callDigits: 1,
  };
  return { ...defaults, ...units[per] };
}

function everything(unit) {
  return unit.name === 'GiB' ? carrying(unit) : [...cost(unit), ...latency(), ...traps(unit)];
}

/** Columns of works that have throughput as well as latency. */
function carrying(unit) {
  return [...cost(unit), throughput(unit), ...latency(), ...traps(unit)];
}

function column(head, digits, value, { compared = false, needs } = {}) {
  return { head, digits, value, compared, needs };
}

function cost({ name, time, timeScale, digits, count, countScale }) {
  return [
    column(`CPU ${time}/${name}`, digits, ({ cpu }) => cpu * timeScale, { compared: true }),
    column('user %', 0, ({ cpuUser, cpuSystem }) => (100 * cpuUser) / (cpuUser + cpuSystem)),
    column(`${count}-instr/${name}`, digits, ({ instructions }) => instructions / countScale, {
      compared: true,
      needs: 'instructions',
    }),
  ];
}

/** If the unit is not GiB, the work reports `bytesPerSecond` itself. */
function throughput({ name }) {
  const mebibytes = ({ rate, bytesPerSecond }) => (name === 'GiB' ? rate * 1024 : bytesPerSecond / 2 ** 20);
  return column('MiB/s', 0, mebibytes, { compared: true });
}

function latency() {
  return [
    column('p50 µs', 0, ({ latency }) => latency?.p50),
    column('p99 µs', 0, ({ latency }) => latency?.p99),
    column('p99.9 µs', 0, ({ latency }) => latency?.p999),
  ];
}

function traps({ name, callDigits }) {
  return [
    column(`calls/${name}`, callDigits, ({ systemCalls }) => systemCalls, { needs: 'systemCalls' }),
    column(`switches/${name}`, callDigits, ({ switches }) => switches),
  ];
}
