// Checks the tests that documents quote, in the form `flow.spec.ts`: "a title", "another one". A test that is renamed
// or removed would leave a claim that no test supports. A file is quoted by its name, with as many folders before it as
// make it unique: `pipe/mod.rs`.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './run.mjs';
import { testFiles, titlesIn } from './test-titles.mjs';

const FILE = /`([\w/-]+\.(?:spec\.ts|rs))`/g;
const QUOTED = /`([\w/-]+\.(?:spec\.ts|rs))`:\s+("[^"]+"(?:(?:,|,? and)\s+"[^"]+")*)/g;

/** The errors in a document's quotations, and the number of quotations. */
export function checkQuotedTests(document) {
  const text = readFileSync(join(root, document), 'utf8');
  const problems = [];
  for (const [, name] of text.matchAll(FILE)) {
    const found = pathsOf(name).length;
    if (found !== 1)
      problems.push(`${document}: there ${found === 0 ? 'is no' : `are ${found} files`} ${name}`);
  }
  let quoted = 0;
  for (const [, name, titles] of text.matchAll(QUOTED)) {
    const known = pathsOf(name).flatMap(titlesIn).map(patternOf);
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

/** The paths of the files that a quotation can mean. */
const pathsOf = (name) => testFiles.filter((path) => path === name || path.endsWith(`/${name}`));

/** A pattern for a title; a substitution in it matches any text. */
function patternOf(parts) {
  // A title that is almost only substitutions would match everything.
  const fixed = parts.join('').length < 8 ? ['no such title'] : parts;
  return new RegExp(`^${fixed.map((part) => escape(part)).join('.+')}$`, 'u');
}

function escape(text) {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}
