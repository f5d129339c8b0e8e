// Every module of the package, for both ways to load it.
const manifest = require('fdsplice/package.json');

const modules = Object.keys(manifest.exports)
  .filter((subpath) => subpath !== './package.json')
  .map((subpath) => subpath.replace(/^\./, 'fdsplice'));

/** Whether `import` and `require` of each module return the same objects. A default export is the module itself. */
exports.isOne = async () => {
  const same = modules.map(async (name) => {
    const required = require(name);
    const { default: main, ...named } = await import(name);
    const isDefault = main === undefined || (required === main && required.default === main);
    return isDefault && Object.keys(named).every((key) => named[key] === required[key]);
  });
  return modules.length > 0 && (await Promise.all(same)).every(Boolean);
};
