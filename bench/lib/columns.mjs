const byWork = {
  bulk: [
    ...cost('s', 1, 'G', 1e9, 'GiB'),
    column('MiB/s', 0, ({ rate }) => rate * 1024, { compared: true }),
    ...traps('GiB', 0),
  ],
  pingpong: [...cost('µs', 1e6, 'k', 1e3, 'trip'), ...latency(), ...traps('trip', 2)],
  churn: [...cost('µs', 1e6, 'k', 1e3, 'conn'), ...latency(), ...traps('conn', 1)],
  idle: [
    column('KiB/conn', 1, ({ rssPerConnection }) => rssPerConnection / 1024, { compared: true }),
    column('fds/conn', 2, ({ descriptorsPerConnection }) => descriptorsPerConnection),
    ...cost('µs', 1e6, 'k', 1e3, 'trip'),
    ...latency(),
    ...traps('trip', 2),
  ],
  mixed: [...cost('s', 1, 'G', 1e9, 'run'), throughput(), ...latency(), ...traps('run', 0)],
  limited: [
    ...cost('s', 1, 'G', 1e9, 'GiB'),
    column('% of limit', 1, ({ ofLimit }) => 100 * ofLimit),
    column('least/most', 2, ({ evenness }) => evenness),
    ...traps('GiB', 0),
  ],
  crossover: [...cost('µs', 1e6, 'k', 1e3, 'trip'), ...latency(), ...traps('trip', 2)],
  files: [...cost('µs', 1e6, 'k', 1e3, 'request'), throughput(), ...latency(), ...traps('request', 1)],
  copies: [...cost('µs', 1e6, 'k', 1e3, 'file'), throughput(), ...traps('file', 1)],
};

const always = [
  column('RSS MiB', 1, ({ rss }) => rss / 2 ** 20),
  column('fds', 0, ({ descriptors }) => descriptors),
];

/**
 * The columns of each work's table. `compared` ones show their spread and are followed by the ratio to ours; `needs` names the
 * counter without which there is nothing to show.
 */
export function columnsOf(work) {
  return [...byWork[work], ...always];
}

function column(head, digits, value, { compared = false, needs } = {}) {
  return { head, digits, value, compared, needs };
}

function cost(time, timeScale, count, countScale, unit) {
  return [
    column(`CPU ${time}/${unit}`, time === 's' ? 3 : 1, ({ cpu }) => cpu * timeScale, { compared: true }),
    column('user %', 0, ({ cpuUser, cpuSystem }) => (100 * cpuUser) / (cpuUser + cpuSystem)),
    column(`${count}-instr/${unit}`, count === 'G' ? 3 : 1, ({ instructions }) => instructions / countScale, {
      compared: true,
      needs: 'instructions',
    }),
  ];
}

function throughput() {
  return column('MiB/s', 0, ({ bytesPerSecond }) => bytesPerSecond / 2 ** 20, { compared: true });
}

function latency() {
  return [
    column('p50 µs', 0, ({ latency }) => latency.p50),
    column('p99 µs', 0, ({ latency }) => latency.p99),
    column('p99.9 µs', 0, ({ latency }) => latency.p999),
  ];
}

function traps(unit, digits) {
  return [
    column(`calls/${unit}`, digits, ({ systemCalls }) => systemCalls, { needs: 'systemCalls' }),
    column(`switches/${unit}`, digits, ({ switches }) => switches),
  ];
}
