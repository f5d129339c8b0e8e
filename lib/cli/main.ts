#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import type { Address } from './address.js';
import { countArgument, durationArgument, listenArgument, targetArgument } from './arguments.js';
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
  .addOption(duration('--connect-timeout <duration>', 'time to reach the target', '10s'))
  .addOption(duration('--grace <duration>', 'time to finish after a signal', '10s'))
  .option('--json', 'write the lines as JSON')
  .option('--quiet', 'write only what failed')
  .addHelpText('after', ADDRESSES)
  .action(async (listen: Address, target: Address, options: RelayOptions) => {
    exitStatus = await relayCommand({ listen, target, json: false, quiet: false, ...options });
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

function duration(flags: string, description: string, byDefault: string): Option {
  return new Option(flags, description)
    .argParser(durationArgument)
    .default(durationArgument(byDefault), byDefault);
}

function version(): string {
  const manifest = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

function oneLine(text: string): string {
  return `fdsplice: ${escapeControls(text.trim().replace(/^error: /, ''))}\n`;
}
