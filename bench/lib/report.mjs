// The results of a run as text: for the terminal and as Markdown.
import { boundsTable } from './bounds.mjs';
import { referenceOf, tableOf } from './table.mjs';

export function printHead(results) {
  for (const line of machineLines(results)) console.log(line);
  for (const line of peerLines(results)) console.log(`  ${line}`);
  console.log(methodLine(results));
}

export function printCase(measured, results) {
  console.log(`\n${measured.title}`);
  const { rows, remarks } = tableOf(measured, results);
  printTable(rows);
  for (const remark of remarks) console.log(remark);
}

/** The bounds of the run's set. A run without a set has none. */
export function printBounds(results) {
  const bounds = boundsTable(results);
  if (!bounds) return;
  console.log('\nbounds');
  printTable(bounds);
}

/** The whole run as Markdown: machine, peers, and a table for each case. */
export function markdown(results) {
  const { startedAt, seconds, cases } = results;
  const parts = [
    `## Measured ${startedAt.slice(0, 16).replace('T', ' ')} UTC, in ${(seconds / 60).toFixed(0)} minutes`,
    machineLines(results).map(bullet).join('\n'),
    peerLines(results).map(bullet).join('\n'),
    `${methodLine(results)}.`,
  ];
  for (const measured of cases) {
    const { rows, remarks } = tableOf(measured, results);
    parts.push(`### ${measured.title}`, markdownTable(rows));
    if (remarks.length > 0) parts.push(remarks.map(bullet).join('\n'));
  }
  const bounds = boundsTable(results);
  if (bounds) parts.push('### Bounds', markdownTable(bounds));
  return `${parts.join('\n\n')}\n`;
}

/** The machine in one line, for a chart. */
export function machineLine({ machine: { processor, cores, kernel } }) {
  return `${processor}, ${cores} cores, Linux ${kernel.split('-')[0]}`;
}

function machineLines({ machine, counters, settings }) {
  const { processor, cores, memory, kernel, distribution, user, openFiles, loadBefore } = machine;
  return [
    `${processor}, ${cores} cores, ${(memory / 2 ** 30).toFixed(1)} GiB; Linux ${kernel}, ${distribution}`,
    `peers with ${settings.workers ?? 'their default number of'} ${settings.workers === 1 ? 'worker' : 'workers'}`,
    `relays run by ${settings.user ?? user}; ${openFiles} open files; network: ${settings.network}; load average ${loadBefore.toFixed(2)}`,
    ...Object.entries(machine.settings).map(([name, value]) => `${name} = ${value}`),
    ...[
      ['instructions', counters.instructions],
      ['system calls', counters.systemCalls],
    ].map(([counter, { available, reason }]) => `${counter}: ${available ? 'counted by perf' : reason}`),
  ];
}

function peerLines({ peers }) {
  return peers.map(
    ({ name, about, version, missing }) =>
      `${name.padEnd(15)} ${missing ? `MISSING: ${missing.split('\n')[0]}` : `${about} — ${version}`}`,
  );
}

function methodLine(results) {
  const { rounds } = results.settings;
  return `${rounds} round${rounds === 1 ? '' : 's'}, medians (least–most); ×ours: median of the ratios to ${referenceOf(results)}, round by round`;
}

export function printTable(rows) {
  const widths = rows[0].map((_, index) => Math.max(...rows.map((row) => row[index].length)));
  for (const [name, ...others] of rows) {
    const padded = others.map((cell, index) => cell.padStart(widths[index + 1]));
    console.log([name.padEnd(widths[0]), ...padded].join('  ').trimEnd());
  }
}

export function markdownTable([heads, ...rows]) {
  // Columns of counters that this machine does not have are omitted.
  const kept = heads.map((_, index) => rows.some((row) => !['not supported', ''].includes(row[index])));
  const line = (cells) => `| ${cells.filter((_, index) => kept[index]).join(' | ')} |`;
  const rule = heads.map((_, index) => (index === 0 ? '---' : '--:'));
  return [heads, rule, ...rows].map(line).join('\n');
}

function bullet(line) {
  return `- ${line.trim().replace(/\s{2,}/g, ': ')}`;
}
