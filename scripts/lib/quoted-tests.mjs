// The tests that documents quote: `flow.spec.ts`: "a title", "another one". Each has to be there under that title, or
// a document would go on claiming what nobody shows any more.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import ts from 'typescript';
import { root } from './run.mjs';

const FILE = /`([\w-]+\.(?:spec\.ts|rs))`/g;
const QUOTED = /`([\w-]+\.(?:spec\.ts|rs))`:\s+("[^"]+"(?:(?:,|,? and)\s+"[^"]+")*)/g;

/** What is wrong with the quotations of a document, and how many there are. */
export function checkQuotedTests(document) {
  const text = readFileSync(join(root, document), 'utf8');
  const problems = [];
  for (const [, name] of text.matchAll(FILE)) {
    if (!sources.has(name)) problems.push(`${document}: there is no ${name}`);
  }
  let quoted = 0;
  for (const [, name, titles] of text.matchAll(QUOTED)) {
    const known = sources.has(name) ? titlesOf(name) : [];
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

/** Paths of what can be quoted, by file name. */
const sources = new Map(
  execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '*.spec.ts', '*.rs'], {
    cwd: root,
    encoding: 'utf8',
  })
    .split('\0')
    .filter((path) => path !== '')
    .map((path) => [basename(path), path]),
);

/** What the titles in a file look like; a template fits whatever it is filled with. */
function titlesOf(name) {
  const text = readFileSync(join(root, sources.get(name)), 'utf8');
  if (name.endsWith('.rs')) {
    const functions = text.matchAll(/#\[(?:tokio::)?test[^\]]*\](?:\s*#\[[^\]]*\])*\s*(?:async )?fn (\w+)/g);
    return Array.from(functions, ([, title]) => fits([title]));
  }
  const found = [];
  const visit = (node) => {
    if (ts.isCallExpression(node) && /test/i.test(node.expression.getText())) {
      for (const argument of node.arguments) {
        if (ts.isStringLiteralLike(argument)) found.push(fits([argument.text]));
        if (ts.isTemplateExpression(argument)) {
          found.push(
            fits(
              [argument.head, ...argument.templateSpans.map((span) => span.literal)].map((part) => part.text),
            ),
          );
        }
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true));
  return found;
}

function fits(parts) {
  // Nothing but what it is filled with would fit everything.
  const fixed = parts.join('').length < 8 ? ['no such title'] : parts;
  return new RegExp(`^${fixed.map((part) => escape(part)).join('.+')}$`, 'u');
}

function escape(text) {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}
