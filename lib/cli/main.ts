#!/usr/bin/env node
// The command `fdsplice`: its arguments, options, help texts and exit status.
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import type { AddressSpec } from '../contract/address-text.js';
import {
  endpointArgument,
  countArgument,
  durationArgument,
  listenArgument,
  rateArgument,
  targetsArgument,
} from './arguments.js';
import { copyCommand, type CopySettings } from './copy-command.js';
import type { EndpointSpec } from './endpoint-spec.js';
import { relayCommand, type RelaySettings } from './relay-command.js';
import type { ReportOptions } from './report.js';
import { escapeControls } from './text.js';

const USAGE_ERROR = 2;

const ADDRESSES = `
Addresses:
  host:port      a name or an IPv4 address
  [::1]:port     an IPv6 address
  :port          every interface (listen only)
  unix:/path     a Unix socket; if no process listens on an existing one, it is replaced
  With port 0 the system chooses a port; the line "listening" reports it (listen only).

SIGINT and SIGTERM stop accepting; the connections may finish within the grace period. A second signal ends them at
once. Exit status: 0 all connections finished, 1 failed or cut off, 2 wrong usage.`;

const ENDPOINTS = `
Source and destination:
  a path         a file, a FIFO or a device; a destination file is created or truncated
  -              standard input, standard output
  tcp:host:port  connects
  unix:/path     connects
  listen:...     listens on host:port, [::1]:port, :port or unix:/path and accepts one connection
  Write ./ in front of a path that looks like one of the other forms.

A destination socket is ended, and the copy waits until its peer has acknowledged every byte: bytes that are counted
have arrived. SIGINT and SIGTERM stop the copy. Exit status: 0 copied, 1 failed or stopped, 2 wrong usage.`;

type CopyOptions = Omit<CopySettings, 'source' | 'destination' | keyof ReportOptions> &
  Partial<ReportOptions>;
type RelayOptions = Omit<RelaySettings, 'listen' | 'targets' | keyof ReportOptions> &
  Partial<ReportOptions> & { balance?: string };

let exitStatus = 0;

const program = new Command('fdsplice')
  .description('Move bytes between descriptors inside the kernel, and always know how many arrived.')
  .version(version())
  .exitOverride()
  .showSuggestionAfterError(false)
  .configureOutput({ outputError: (text, write) => write(oneLine(text)) });

program
  .command('relay')
  .description(
    'relay TCP and Unix connections to targets, with one line on stdout for each connection that has ended',
  )
  .argument('<listen>', 'address to accept connections on', listenArgument)
  .argument('<target...>', 'addresses to connect them to', targetsArgument)
  .addOption(
    new Option('--balance <way>', 'how several targets share the connections')
      .choices(['round-robin'])
      .default('round-robin'),
  )
  .addOption(
    new Option(
      '--max-connections <n>',
      'maximum number of connections at a time; further ones are reset and logged',
    )
      .argParser(countArgument)
      .default(Infinity, 'no limit'),
  )
  .addOption(rateLimit('bytes per second of one connection, both directions together'))
  .addOption(duration('--idle-timeout <duration>', 'end a connection after this time without one byte moved'))
  .addOption(
    duration(
      '--half-close-timeout <duration>',
      'end a connection this long after one of its directions has ended',
    ),
  )
  .addOption(duration('--connect-timeout <duration>', 'maximum time to connect to the target', '10s'))
  .addOption(duration('--stats <interval>', 'write the counts of the whole process at this interval'))
  .addOption(duration('--grace <duration>', 'time for connections to finish after a signal', '10s'))
  .option('--json', 'write the lines as JSON')
  .option('--quiet', 'write only failures; a side that closes after the end of its input is none')
  .addHelpText('after', ADDRESSES)
  .action(async (listen: AddressSpec, targets: AddressSpec[], { balance: _, ...options }: RelayOptions) => {
    exitStatus = await relayCommand({ listen, targets, json: false, quiet: false, ...options });
  });

program
  .command('copy')
  .description(
    'copy from a source to a destination until the source ends, and report on stderr how many bytes arrived',
  )
  .argument('<source>', 'endpoint to read from', endpointArgument)
  .argument('<destination>', 'endpoint to write to', endpointArgument)
  .addOption(rateLimit('bytes per second'))
  .addOption(duration('--idle-timeout <duration>', 'fail after this time without one byte moved'))
  .addOption(duration('--connect-timeout <duration>', 'maximum time to connect', '10s'))
  .option('--json', 'write the outcome as JSON, without a progress bar')
  .option('--quiet', 'write only failures, without a progress bar')
  .addHelpText('after', ENDPOINTS)
  .action(async (source: EndpointSpec, destination: EndpointSpec, options: CopyOptions) => {
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
// Explicit, because a name lookup that is still running would keep the process alive.
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

/** An error of commander as one line of this command. */
function oneLine(text: string): string {
  return `fdsplice: ${escapeControls(text.trim().replace(/^error: /, ''))}\n`;
}
