// Rules for the imports of lib/, checked by `npm run check:floors`. Type-only imports count like all others.

/** The rooms of lib/, one array per floor, from the top. A room imports only from floors below its own. */
const floors = [
  ['cli', 'adapters'],
  ['verbs', 'server'],
  ['http', 'file'],
  ['stream', 'native'],
  ['endpoint', 'transfer'],
  ['node', 'core'],
  ['contract'],
];

/** Entry points: no module imports them, and every module must be reachable from one of them. */
const entries = '^(index|lib/cli/main|lib/adapters/[^/]+)\\.ts$';
/** The addon's types are generated, and lie below all floors. */
const generated = '^lib/binding\\.d\\.ts$';
/** The parts of relay servers that need no core. They are reached when `index.ts` exports the server. */
const comingServer = '^lib/(server/|contract/(server-types|target)\\.ts$)';

/** The grammar of addresses, which exists once. */
const addressText = '^lib/contract/address-text\\.ts$';

const indexFile = '^index\\.ts$';
const folder = (rooms) => `^lib/(${rooms.join('|')})/`;
const rooms = floors.flat();

/**
 * One rule for each room below the top floor: no import from another room of its own floor or of a floor above. The top
 * floor has a stricter rule, `public-surface-only`.
 */
const floorRules = floors.slice(1).flatMap((floor, index) => {
  const level = index + 1;
  const below = floors.slice(level + 1).flat();
  const notBelow = floors.slice(0, level + 1).flat();
  return floor.map((room) => ({
    name: `floor-of-${room}`,
    severity: 'error',
    comment: `lib/${room} may import only from ${below.join(', ') || 'itself'}`,
    from: { path: folder([room]) },
    to: { path: [folder(notBelow), indexFile], pathNot: folder([room]) },
  }));
});

export default {
  forbidden: [
    ...floorRules,
    {
      name: 'public-surface-only',
      severity: 'error',
      comment:
        'The command line and the adapters use the package through index.ts, as everyone else. Both read addresses alike',
      from: { path: folder(floors[0]) },
      to: { path: '^lib/', pathNot: ['^lib/$1/', addressText] },
    },
    {
      name: 'room-without-floor',
      severity: 'error',
      comment: 'Every folder of lib/ is on a floor of the list in this file',
      from: {},
      to: { path: '^lib/', pathNot: [folder(rooms), generated] },
    },
    {
      name: 'no-circular',
      severity: 'error',
      comment: 'Files do not import each other in a circle',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      severity: 'error',
      comment: 'A module that no entry point reaches is dead code',
      from: { path: entries },
      to: { path: '^lib/', pathNot: [generated, entries, comingServer], reachable: false },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    includeOnly: { path: '^(lib/|index\\.ts$)' },
  },
};
