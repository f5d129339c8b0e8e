// A folder in which the package is installed and used.
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../lib/run.mjs';
import { toolbox } from './nodes.mjs';
import { output } from './process.mjs';
import { assert } from '../lib/suite.mjs';

const modules = ['typed.mts', 'adapters.mts'];
const all = [...modules, 'typed.cts', 'adapters.cts'];
/** TypeScript's settings for the resolution of modules, each with the programs that compile under it. */
export const resolutions = {
  node16: { module: 'node16', include: all },
  nodenext: { module: 'nodenext', include: all },
  bundler: { module: 'esnext', include: modules },
};

const compiledTo = (resolution) => `built-${resolution}`;

/** A clean folder with programs that use the package. Its PATH has only a Node, npm and pnpm. */
export class Consumer {
  #env;

  constructor(folder, binary, env) {
    this.folder = folder;
    this.binary = binary;
    this.#env = env;
  }

  static async create(folder, { binary, env, pnpm }) {
    cpSync(join(root, 'scripts/install/consumers'), folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true }));
    const box = await toolbox(`${folder}-path`, binary, pnpm);
    return new Consumer(folder, binary, { ...env, PATH: box });
  }

  /** Installs the package here with a package manager. */
  async install(manager, ...args) {
    await output(join(this.#env.PATH, manager), [...args, 'fdsplice'], { cwd: this.folder, env: this.#env });
  }

  /** Runs a program here, by default with the folder's Node. Resolves with the result that it prints as JSON. */
  run(file, binary = this.binary) {
    return this.#result(binary, [file]);
  }

  /** The same for a program that needs no Node. */
  execute(file) {
    return this.#result(file, []);
  }

  async #result(command, args) {
    const stdout = await output(command, args, { cwd: this.folder, env: this.#env, timeout: 60_000 });
    return JSON.parse(stdout.trim().split('\n').at(-1));
  }

  /** Runs a program of another package here, with more environment variables. */
  program(args, env) {
    return output(this.binary, args, { cwd: this.folder, env: { ...this.#env, ...env } });
  }

  /** The names of all packages installed here for production, without this folder's own. */
  async packages() {
    const args = ['ls', '--omit=dev', '--all', '--parseable'];
    const paths = await output(join(this.#env.PATH, 'npm'), args, { cwd: this.folder, env: this.#env });
    const inside = join(this.folder, 'node_modules/');
    return paths
      .trim()
      .split('\n')
      .filter((path) => path.startsWith(inside))
      .map((path) => path.slice(inside.length))
      .sort();
  }

  async version() {
    const command = join(this.folder, 'node_modules/.bin/fdsplice');
    return (await output(command, ['--version'], { cwd: this.folder, env: this.#env })).trim();
  }

  /** Compiles the TypeScript programs in strict mode, and checks the types of libraries too. */
  async compile(resolution) {
    const { module, include } = resolutions[resolution];
    const compilerOptions = {
      strict: true,
      skipLibCheck: false,
      target: 'es2022',
      moduleResolution: resolution,
      module,
      outDir: compiledTo(resolution),
      rootDir: '.',
      types: ['node'],
    };
    const project = join(this.folder, `tsconfig.${resolution}.json`);
    writeFileSync(project, JSON.stringify({ compilerOptions, include }));
    this.addNodeTypes();
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    await output(this.binary, [tsc, '--project', project], { cwd: this.folder, env: this.#env });
  }

  takeCompiled(other, resolution) {
    const name = compiledTo(resolution);
    cpSync(join(other.folder, name), join(this.folder, name), { recursive: true });
  }

  /** Runs the compiled programs, and resolves with the result of the first one. */
  async runCompiled(resolution) {
    const results = [];
    for (const source of resolutions[resolution].include) {
      const name = source.replace(/\.([cm])ts$/, '.$1js');
      const result = await this.run(join(this.folder, compiledTo(resolution), name));
      for (const [key, value] of Object.entries(result))
        if (value === false) assert(false, `${name}: ${key}`);
      results.push(result);
    }
    return results[0];
  }

  addNodeTypes() {
    for (const name of ['@types/node', 'undici-types']) {
      const destination = join(this.folder, 'node_modules', name);
      if (existsSync(destination)) continue;
      mkdirSync(destination, { recursive: true });
      cpSync(join(root, 'node_modules', name), destination, { recursive: true });
    }
  }
}
