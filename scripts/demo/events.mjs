// The events of the demo's processes.

/** Writes an event as one line of JSON to stdout, in the form of the command line's `--json`. */
export function writeEvent(event, fields) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}
