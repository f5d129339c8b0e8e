/** Escapes what could move the cursor, hide text or start a line of its own in a terminal or a log. */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escapeUnits);
}

/** JSON on one line; unlike `JSON.stringify` alone it leaves no control character above U+001F either. */
export function jsonLine(value: object): string {
  return escapeControls(JSON.stringify(value));
}

/** Names the code in front of a message that does not name it itself. */
export function withCode(code: string, message: string): string {
  return message.includes(code) ? message : `${code}: ${message}`;
}

export function describeError(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  // A connect that tried several addresses has a message of its own for each, and none for all.
  const each = error instanceof AggregateError ? error.errors.map(describeError).join(', ') : '';
  const message = error.message === '' ? each : error.message;
  const code = codeOf(error);
  return code === undefined ? message : withCode(code, message);
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** A reader that goes away (EPIPE) ends what is said, never the transfers that it is said about. */
export function lineWriter(stream: NodeJS.WriteStream): (line: string) => void {
  let readable = true;
  stream.on('error', () => {
    readable = false;
  });
  return (line) => {
    if (readable) {
      stream.write(`${line}\n`);
    }
  };
}

// By UTF-16 unit, which is how JSON writes a character beyond U+FFFF.
function escapeUnits(character: string): string {
  return Array.from(
    { length: character.length },
    (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`,
  ).join('');
}
