// The titles of the tests in specs and Rust files, read from the sources.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import ts from 'typescript';
import { root } from './run.mjs';

/** The paths of all specs and Rust files, relative to the root. */
export const testFiles = execFileSync(
  'git',
  ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '*.spec.ts', '*.rs'],
  { cwd: root, encoding: 'utf8' },
)
  .split('\0')
  .filter((path) => path !== '');

/** The titles in a file, each as its fixed parts: a template has a part on each side of a substitution. */
export function titlesIn(path) {
  const text = readFileSync(join(root, path), 'utf8');
  return path.endsWith('.rs') ? rustTitles(text) : specTitles(path, text);
}

function rustTitles(text) {
  const functions = text.matchAll(/#\[(?:tokio::)?test[^\]]*\](?:\s*#\[[^\]]*\])*\s*(?:async )?fn (\w+)/g);
  return Array.from(functions, ([, title]) => [title]);
}

function specTitles(path, text) {
  const found = [];
  const visit = (node) => {
    if (ts.isCallExpression(node) && /test/i.test(node.expression.getText())) {
      found.push(...node.arguments.map(partsOf).filter((parts) => parts !== undefined));
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return found;
}

function partsOf(argument) {
  if (ts.isStringLiteralLike(argument)) return [argument.text];
  if (!ts.isTemplateExpression(argument)) return undefined;
  return [argument.head, ...argument.templateSpans.map((span) => span.literal)].map((part) => part.text);
}
