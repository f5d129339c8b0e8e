// The bounds of a set, with the figures of a run beside them.
import { sets } from './sets.mjs';
import { pairedRatio, spread } from './statistics.mjs';

const figures = {
  cpu: { name: 'CPU', value: ({ cpu }) => cpu },
  p99: { name: 'p99', value: ({ latency }) => latency?.p99 },
  memory: { name: 'KiB/conn', value: ({ rssPerConnection }) => rssPerConnection / 1024 },
  descriptors: { name: 'fds/conn', value: ({ descriptorsPerConnection }) => descriptorsPerConnection },
};

/** Rows of text, of which the first has the heads; `undefined` for a run without a set. */
export function boundsTable({ settings, cases }) {
  if (settings.set === undefined) return undefined;
  const rows = sets[settings.set].bounds.flatMap((bound) =>
    bound.cases.map((name) =>
      row(bound, name, cases.find((measured) => measured.name === name)?.rounds ?? []),
    ),
  );
  return [['case', 'figure', 'peer', 'bound', 'measured', 'verdict'], ...rows];
}

function row({ figure, peer, against, most }, name, rounds) {
  const { name: title, value } = figures[figure];
  const complete = rounds.filter(({ error }) => error === undefined);
  // The ratio of two figures of one round, as in the tables; the median of the rounds.
  const measured = against
    ? pairedRatio(complete, peer, against, value)
    : spread(complete.filter((round) => round.peer === peer).map(value))?.median;
  const limit = against ? `${most} × ${against}` : `${most}`;
  const verdict = measured === undefined ? 'not measured' : measured <= most ? 'holds' : 'EXCEEDED';
  return [name, title, peer, `at most ${limit}`, measured?.toFixed(2) ?? '–', verdict];
}
