// Text for terminals and logs: escaping, JSON lines, and descriptions of errors.
/** Escapes characters that could move the cursor, hide text or start a new line in a terminal or a log. */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escapeUnits);
}

/** JSON on one line. Unlike `JSON.stringify` it also escapes control characters above U+001F. */
export function jsonLine(value: object): string {
  return escapeControls(JSON.stringify(value));
}

/** Puts the code in front of a message that does not contain it. */
export function withCode(code: string, message: string): string {
  return message.includes(code) ? message : `${code}: ${message}`;
}

/** The message of an error with its code. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  // A connect that tried several addresses has one message for each of them and an empty one for the whole.
  const each = error instanceof AggregateError ? error.errors.map(describeError).join(', ') : '';
  const message = error.message === '' ? each : error.message;
  const code = codeOf(error);
  return code === undefined ? message : withCode(code, message);
}

/** The code of an error, if it has one. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Writes lines to a stream. If its reader goes away (EPIPE), later lines are dropped and the transfers continue. */
export function lineWriter(stream: NodeJS.WriteStream): (line: string) => void {
  let hasReader = true;
  stream.on('error', () => {
    hasReader = false;
  });
  return (line) => {
    if (hasReader) {
      stream.write(`${line}\n`);
    }
  };
}

// JSON escapes a character above U+FFFF as its two UTF-16 units.
function escapeUnits(character: string): string {
  return Array.from(
    { length: character.length },
    (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`,
  ).join('');
}
