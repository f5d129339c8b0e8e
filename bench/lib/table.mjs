// The table of a case: rows of text and remarks.
import { columnsOf } from './columns.mjs';
import { pairedRatio, spread } from './statistics.mjs';

/** The peers with a part in a case, in the order of the tables. In older results, without a list, that is all of them. */
export function playersOf({ peers: named }, { peers }) {
  return named ? peers.filter(({ name }) => named.includes(name)) : peers;
}

/** One case as a table: rows of text, of which the first has the heads, and remarks. */
export function tableOf(measured, results) {
  const { counters, settings } = results;
  const { rounds, absent = {} } = measured;
  const columns = columnsOf(measured);
  const reference = referenceOf(results);
  const complete = rounds.filter(({ error }) => error === undefined);
  const rows = [];
  const remarks = [];
  for (const { name, missing } of playersOf(measured, results)) {
    const mine = complete.filter(({ peer }) => peer === name);
    if (mine.length > 0) {
      rows.push([
        name,
        ...columns.flatMap((column) => cells(column, { mine, complete, counters, reference })),
      ]);
    }
    if (missing) remarks.push(`${name} is MISSING: ${missing.split('\n')[0]}`);
    for (const { peer, round, error, skipped } of rounds) {
      if (peer === name && error !== undefined) {
        remarks.push(`${name} ${skipped ? 'not measured' : 'FAILED'} in round ${round + 1}: ${error}`);
      }
    }
  }
  for (const reason of new Set(Object.values(absent))) {
    const names = Object.keys(absent).filter((name) => absent[name] === reason);
    remarks.push(`absent (${reason}): ${names.join(', ')}`);
  }
  const heads = columns.flatMap(({ head, compared }) => (compared ? [head, '×ours'] : [head]));
  const done = Math.max(...rounds.map(({ round }) => round)) + 1;
  if (done < settings.rounds) remarks.push(`only ${done} of ${settings.rounds} rounds: out of time`);
  return { rows: [['', ...heads], ...rows], remarks };
}

/** The peer that the ratios of a run refer to. */
export function referenceOf({ settings }) {
  return settings.reference ?? 'fdsplice';
}

/** One figure of one peer: median, least and most, and the median of its ratios to `reference`; `undefined` without values. */
export function figureOf({ value }, rounds, peer, reference) {
  // A figure that does not exist for a relay is NaN.
  const figure = (round) => {
    const number = value(round);
    return Number.isFinite(number) ? number : undefined;
  };
  const complete = rounds.filter(({ error }) => error === undefined);
  const found = spread(complete.filter((round) => round.peer === peer).map(figure));
  return found && { ...found, times: pairedRatio(complete, peer, reference, figure) };
}

function cells(column, { mine, complete, counters, reference }) {
  const { digits, compared, needs } = column;
  if (needs && !counters[needs].available) return compared ? ['not supported', ''] : ['not supported'];
  const found = figureOf(column, complete, mine[0].peer, reference);
  const text = (number) => number.toFixed(digits);
  if (!compared) return [found ? text(found.median) : '–'];
  return [
    found ? `${text(found.median)} (${text(found.least)}–${text(found.most)})` : '–',
    found?.times === undefined ? '–' : found.times.toFixed(2),
  ];
}
