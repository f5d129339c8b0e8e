// Median, spread and paired ratios.
/** Median, least and most; `undefined` without values. */
export function spread(values) {
  const known = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  if (known.length === 0) return undefined;
  const middle = (known.length - 1) / 2;
  return {
    median: (known[Math.floor(middle)] + known[Math.ceil(middle)]) / 2,
    least: known[0],
    most: known.at(-1),
  };
}

/** Median of the ratios of one peer's rounds to the same rounds of another peer. */
export function pairedRatio(rounds, peer, other, value) {
  const ratios = [];
  for (const mine of rounds.filter((round) => round.peer === peer)) {
    const theirs = rounds.find((round) => round.peer === other && round.round === mine.round);
    const [above, below] = [value(mine), theirs && value(theirs)];
    if (above !== undefined && below) ratios.push(above / below);
  }
  return spread(ratios)?.median;
}
