// Checks the tests that documents quote, in the form `flow.spec.ts`: "a title", "another one". A test that is renamed
// or removed would leave a claim that no test supports.
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { root } from './run.mjs';
import { testFiles, titlesIn } from './test-titles.mjs';

const FILE = /`([\w-]+\.(?:spec\.ts|rs))`/g;
const QUOTED = /`([\w-]+\.(?:spec\.ts|rs))`:\s+("[^"]+"(?:(?:,|,? and)\s+"[^"]+")*)/g;

/** The errors in a document's quotations, and the number of quotations. */
export function checkQuotedTests(document) {
  const text = readFileSync(join(root, document), 'utf8');
  const problems = [];
  for (const [, name] of text.matchAll(FILE)) {
    if (!paths.has(name)) problems.push(`${document}: there is no ${name}`);
  }
  let quoted = 0;
  for (const [, name, titles] of text.matchAll(QUOTED)) {
    const known = paths.has(name) ? titlesIn(paths.get(name)).map(patternOf) : [];
    for (const [, written] of titles.matchAll(/"([^"]+)"/g)) {
      const title = written.replaceAll(/\s+/g, ' ');
      quoted += 1;
      if (!known.some((pattern) => pattern.test(title))) {
        problems.push(`${document}: ${name} has no test "${title}"`);
      }
    }
  }
  return { problems, quoted };
}

/** Paths of the files with tests, by file name. */
const paths = new Map(testFiles.map((path) => [basename(path), path]));

/** A pattern for a title; a substitution in it matches any text. */
function patternOf(parts) {
  // A title that is almost only substitutions would match everything.
  const fixed = parts.join('').length < 8 ? ['no such title'] : parts;
  return new RegExp(`^${fixed.map((part) => escape(part)).join('.+')}$`, 'u');
}

function escape(text) {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}
