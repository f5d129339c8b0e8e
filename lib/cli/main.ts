#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import type { Address } from './address.js';
import {
  copyEndArgument,
  countArgument,
  durationArgument,
  listenArgument,
  rateArgument,
  targetArgument,
} from './arguments.js';
import { copyCommand, type CopySettings } from './copy-command.js';
import type { CopyEnd } from './endpoint-spec.js';
import { relayCommand, type RelaySettings } from './relay-command.js';
import type { ReportOptions } from './report.js';
import { escapeControls } from './text.js';

const USAGE_ERROR = 2;

const ADDRESSES = `
Addresses:
  host:port      a name or an IPv4 address
  [::1]:port     an IPv6 address
  :port          every interface (listen only)
  unix:/path     a Unix socket; a stale one to listen on is replaced
  Port 0 lets the system choose one; the line "listening" has it (listen only).

SIGINT and SIGTERM stop accepting and let the connections finish for the grace period; a second signal ends
them at once. Exit status: 0 everything finished, 1 failed or cut off, 2 wrong usage.`;

const COPY_ENDS = `
Source and destination:
  a path         a file, a FIFO, a device; a destination file is emptied first, and made if there is none
  -              standard input, standard output
  tcp:host:port  connects
  unix:/path     connects
  listen:...     listens on host:port, [::1]:port, :port or unix:/path, and accepts one connection
  A path that looks like one of the others is written with ./ before it.

A destination that is a socket is ended, and its peer waited for: what is counted has arrived. SIGINT and SIGTERM stop
the copy. Exit status: 0 copied, 1 failed or stopped, 2 wrong usage.`;

type CopyOptions = Omit<CopySettings, 'source' | 'destination' | keyof ReportOptions> &
  Partial<ReportOptions>;
type RelayOptions = Omit<RelaySettings, 'listen' | 'target' | keyof ReportOptions> & Partial<ReportOptions>;

let exitStatus = 0;

const program = new Command('fdsplice')
  .description('Move bytes between descriptors inside the kernel, and always know how many arrived.')
  .version(version())
  .exitOverride()
  .showSuggestionAfterError(false)
  .configureOutput({ outputError: (text, write) => write(oneLine(text)) });

program
  .command('relay')
  .description('relay TCP and Unix connections to a target, one line on stdout for each that ended')
  .argument('<listen>', 'address to accept connections on', listenArgument)
  .argument('<target>', 'address to connect each of them to', targetArgument)
  .addOption(
    new Option('--max-connections <n>', 'relay at most this many at a time, reset and log any further one')
      .argParser(countArgument)
      .default(Infinity, 'no limit'),
  )
  .addOption(rateLimit('bytes per second of one connection, both directions together'))
  .addOption(duration('--idle-timeout <duration>', 'end a connection on which nothing moves for so long'))
  .addOption(
    duration('--half-close-timeout <duration>', 'end one of which only one direction is left after so long'),
  )
  .addOption(duration('--connect-timeout <duration>', 'time to reach the target', '10s'))
  .addOption(duration('--stats <interval>', 'write the counts of the whole process that often'))
  .addOption(duration('--grace <duration>', 'time to finish after a signal', '10s'))
  .option('--json', 'write the lines as JSON')
  .option('--quiet', 'write only what failed')
  .addHelpText('after', ADDRESSES)
  .action(async (listen: Address, target: Address, options: RelayOptions) => {
    exitStatus = await relayCommand({ listen, target, json: false, quiet: false, ...options });
  });

program
  .command('copy')
  .description(
    'copy from a source to a destination until the source ends, and say on stderr how many bytes arrived',
  )
  .argument('<source>', 'where the bytes come from', copyEndArgument)
  .argument('<destination>', 'where they go', copyEndArgument)
  .addOption(rateLimit('bytes per second'))
  .addOption(duration('--idle-timeout <duration>', 'give up when nothing moves for so long'))
  .addOption(duration('--connect-timeout <duration>', 'time to connect', '10s'))
  .option('--json', 'write the outcome as JSON, and draw nothing')
  .option('--quiet', 'write only what failed, and draw nothing')
  .addHelpText('after', COPY_ENDS)
  .action(async (source: CopyEnd, destination: CopyEnd, options: CopyOptions) => {
    exitStatus = await copyCommand({ source, destination, json: false, quiet: false, ...options });
  });

try {
  if (process.argv.length === 2) {
    program.error('a command is missing: see fdsplice --help');
  }
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) {
    throw error;
  }
  exitStatus = error.exitCode === 0 ? 0 : USAGE_ERROR;
}
// Not by itself: a name that is still being looked up would hold the process for as long as that takes.
process.exit(exitStatus);

function duration(flags: string, description: string, byDefault?: string): Option {
  const option = new Option(flags, description).argParser(durationArgument);
  return byDefault === undefined ? option : option.default(durationArgument(byDefault), byDefault);
}

function rateLimit(description: string): Option {
  return new Option('--rate-limit <size>', `${description}, such as 10MiB or 500kB`).argParser(rateArgument);
}

function version(): string {
  const manifest = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

function oneLine(text: string): string {
  return `fdsplice: ${escapeControls(text.trim().replace(/^error: /, ''))}\n`;
}
