// The peers of this package.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/lib/run.mjs';
import { nodeCopies, nodeVersion, revision, rust, script } from './peer-kinds.mjs';

const limitsElsewhere = { limited: 'limits as `fdsplice` does' };

/** This package, as it is built in a checkout. */
export function ours(name, about, checkout) {
  const which = packageOf(checkout);
  const relay = ({ listen, target }) => commandOf('fdsplice', checkout, { listen, target });
  return {
    name,
    about,
    version: () => ourVersion(checkout ?? root),
    roles: {
      relay,
      limited: (settings) => [...relay(settings), '--rate-limit', `${settings.bytesPerSecond}`],
      files: ({ listen, directory }) => [
        ...script('files', which),
        ...['--with', 'ours', '--listen', listen, '--directory', directory],
      ],
      copies: nodeCopies('ours', which),
    },
  };
}

/** Our relay with splice switched off. */
export function oursReadingAndWriting(checkout) {
  const { version, roles } = ours('', '', checkout);
  const withOption = (command) => (settings) => [...command(settings), '--read-write'];
  return {
    name: 'fdsplice-rw',
    about: 'relay of this package, zeroCopy: false',
    version,
    roles: { relay: withOption(roles.relay), limited: withOption(roles.limited) },
    works: ['bulk', 'crossover', 'limited'],
  };
}

/** Our own core without Node, and the same with a runtime for each worker: a connection stays with the one that accepted it. */
export function oursInRust(name, about) {
  const alone = inRust(name, about);
  const pinned = {
    ...alone,
    name: `${name}-pinned`,
    about: `${about}; a runtime for each worker`,
    roles: { relay: (settings) => [...alone.roles.relay(settings), '--pinned'] },
    leastWorkers: 2,
  };
  return [alone, pinned];
}

function inRust(name, about) {
  const peer = rust(name, about, 'fdsplice');
  const version = () => [peer.version(), revision(root)].filter(Boolean).join(', ');
  return { ...peer, version, without: limitsElsewhere };
}

/** The command of a program that relays, with the number of its threads if it takes one. */
function commandOf(program, checkout, { listen, target, workers }) {
  return [
    ...script(program, packageOf(checkout)),
    ...['--listen', listen, '--target', target],
    ...(workers === undefined ? [] : ['--workers', `${workers}`]),
  ];
}

/** The arguments by which a program loads the package of a checkout. */
function packageOf(checkout) {
  return checkout === undefined ? [] : ['--package', checkout];
}

function ourVersion(checkout) {
  const { name, version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8'));
  const binary = readdirSync(checkout).find((file) => file.endsWith('.node'));
  const when = binary && statSync(join(checkout, binary)).mtime.toISOString().slice(0, 16);
  return [`${name} ${version}`, revision(checkout), when && `built ${when}`, nodeVersion()]
    .filter(Boolean)
    .join(', ');
}
