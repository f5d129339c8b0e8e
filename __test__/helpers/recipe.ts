// Runs the code of docs/recipes.md as printed there, so that the recipes cannot rot.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import type { ExecutionContext } from 'ava';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Imports a recipe under this heading of docs/recipes.md, the first one by default, and returns its exports. */
export async function recipe<T>(t: ExecutionContext, heading: string, index = 0): Promise<T> {
  const sections = readFileSync(join(ROOT, 'docs/recipes.md'), 'utf8').split(/^## /m);
  const section = sections.find((text) => text.startsWith(`${heading}\n`));
  const code = [...(section ?? '').matchAll(/^```ts\n([^]*?)^```/gm)][index]?.[1];
  if (code === undefined) throw new Error(`docs/recipes.md has no recipe for ${heading}`);
  // Inside the package, so that its name and the names of its dependencies resolve as they do for users.
  mkdirSync(join(ROOT, 'target'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, 'target/recipe-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'recipe.mts');
  writeFileSync(file, code);
  return (await import(pathToFileURL(file).href)) as T;
}
