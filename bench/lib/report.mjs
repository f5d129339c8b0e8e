import { columnsOf } from './columns.mjs';
import { pairedRatio, spread } from './statistics.mjs';

export function printHead({ machine, peers, counters, settings }) {
  const { processor, cores, memory, kernel, distribution, user, openFiles, loadBefore } = machine;
  console.log(
    `${processor}, ${cores} cores, ${(memory / 2 ** 30).toFixed(1)} GiB; Linux ${kernel}, ${distribution}`,
  );
  console.log(
    `relays run by ${settings.user ?? user}; ${openFiles} open files; network: ${settings.network}; load average ${loadBefore.toFixed(2)}`,
  );
  for (const [name, value] of Object.entries(machine.settings)) console.log(`  ${name} = ${value}`);
  for (const [what, { available, reason }] of [
    ['instructions', counters.instructions],
    ['system calls', counters.systemCalls],
  ]) {
    console.log(`${what}: ${available ? 'counted by perf' : reason}`);
  }
  for (const { name, about, version, missing } of peers) {
    console.log(`  ${name.padEnd(15)} ${missing ? `MISSING: ${missing}` : `${about} — ${version}`}`);
  }
  console.log(
    `${settings.rounds} rounds, medians (least–most); ×ours: median of the ratios to ours, round by round`,
  );
}

export function printCase({ work, title, absent = {}, rounds }, { peers, counters, settings }) {
  console.log(`\n${title}`);
  const columns = columnsOf(work);
  const complete = rounds.filter(({ error }) => error === undefined);
  const rows = [];
  const remarks = [];
  for (const { name, missing } of peers) {
    const mine = complete.filter(({ peer }) => peer === name);
    if (mine.length > 0) {
      rows.push([name, ...columns.flatMap((column) => cells(column, mine, complete, counters))]);
    }
    if (missing) remarks.push(`${name} is MISSING: ${missing.split('\n')[0]}`);
    for (const { peer, round, error } of rounds) {
      if (peer === name && error !== undefined)
        remarks.push(`${name} FAILED in round ${round + 1}: ${error}`);
    }
  }
  for (const [name, reason] of Object.entries(absent)) remarks.push(`${name} is absent: ${reason}`);
  const heads = columns.flatMap(({ head, compared }) => (compared ? [head, '×ours'] : [head]));
  printTable([['', ...heads], ...rows]);
  const done = Math.max(...rounds.map(({ round }) => round)) + 1;
  if (done < settings.rounds) remarks.push(`only ${done} of ${settings.rounds} rounds: out of time`);
  for (const remark of remarks) console.log(remark);
}

function cells({ digits, value, compared, needs }, mine, complete, counters) {
  if (needs && !counters[needs].available) return compared ? ['not supported', ''] : ['not supported'];
  // Some figures do not exist for some relays: NaN.
  const figure = (round) => {
    const number = value(round);
    return Number.isFinite(number) ? number : undefined;
  };
  const found = spread(mine.map(figure));
  const text = (number) => number.toFixed(digits);
  if (!compared) return [found ? text(found.median) : '–'];
  const times = pairedRatio(complete, mine[0].peer, 'fdsplice', figure);
  return [
    found ? `${text(found.median)} (${text(found.least)}–${text(found.most)})` : '–',
    times === undefined ? '–' : times.toFixed(2),
  ];
}

function printTable(rows) {
  const widths = rows[0].map((_, index) => Math.max(...rows.map((row) => row[index].length)));
  for (const [name, ...others] of rows) {
    const padded = others.map((cell, index) => cell.padStart(widths[index + 1]));
    console.log([name.padEnd(widths[0]), ...padded].join('  ').trimEnd());
  }
}
