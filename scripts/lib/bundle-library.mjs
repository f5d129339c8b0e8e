// The package's modules. Each is implemented once, as a CommonJS module (.cjs) that contains all it imports from lib/.
// The ES module (.js) only passes its exports on, so `import` and `require` return the same objects.
import { readFileSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { withBundle } from './bundle.mjs';
import { entries } from './entries.mjs';
import { root } from './run.mjs';

/** Writes the modules, and returns the names of their files relative to dist/. */
export async function bundleLibrary() {
  const names = [];
  for (const { source, name } of entries()) {
    const chunk = await bundleModule(source, name);
    writeFileSync(join(root, `dist/${name}.js`), reexport(name, chunk.exports));
    names.push(`${name}.cjs`, `${name}.cjs.map`, `${name}.js`);
  }
  return names;
}

async function bundleModule(source, name) {
  const file = join(root, `dist/${name}.cjs`);
  const { output } = await withBundle({ source, name, extension: '.cjs', plugins: [fewFields] }, (bundle) =>
    bundle.write({
      format: 'cjs',
      file,
      codeSplitting: false,
      exports: 'named',
      esModule: false,
      generatedCode: { symbols: false },
      sourcemap: true,
      strict: true,
      // Plugin systems take the module itself as the plugin.
      footer: ({ exports }) =>
        exports.includes('default') ? 'module.exports = Object.assign(exports.default, exports);' : '',
    }),
  );
  writeFileSync(file, withoutRequire(output[0].code));
  return output[0];
}

/**
 * Takes Node's modules from the process: esbuild does not give a CommonJS module a working `require` in an ES module.
 * Both names have the same length and no line is added, so the source map stays right.
 */
function withoutRequire(code) {
  const ids = new Set();
  const calls = code.replaceAll(/\brequire\("([\w:/]+)"\)/g, (call, id) => {
    if (!isBuiltin(id)) return call;
    ids.add(id);
    return `builtin("${id}")`;
  });
  if (ids.size === 0) return code;
  // For a Node that is too old. Bundlers accept `require` only with a constant.
  const required = [...ids].map((id) => `"${id}": () => require("${id}")`).join(', ');
  const builtin = `process.getBuiltinModule ?? ((id) => ({ ${required} })[id]())`;
  return calls.replace(/^"use strict";/, (start) => `${start} const builtin = ${builtin};`);
}

/** The ES module with the exports of a CommonJS module. */
function reexport(name, exports) {
  const file = `./${name.split('/').at(-1)}.cjs`;
  const named = exports.filter((each) => each !== 'default').sort();
  const lines = [`import implementation from '${file}';`, ''];
  if (named.length > 0) lines.push(`export const { ${named.join(', ')} } = implementation;`);
  if (named.length < exports.length) lines.push('export default implementation;');
  return `${lines.join('\n')}\n`;
}

/** Leaves only those fields of package.json in a bundle that lib/ reads. */
const fewFields = {
  name: 'few-fields',
  load: {
    filter: { id: join(root, 'package.json') },
    handler(id) {
      const { name, version, engines, optionalDependencies } = JSON.parse(readFileSync(id, 'utf8'));
      return JSON.stringify({ name, version, engines, optionalDependencies });
    },
  },
};
