/** One event as one line of JSON on stdout, as the command line's `--json` does. */
export function tell(event, fields) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}
