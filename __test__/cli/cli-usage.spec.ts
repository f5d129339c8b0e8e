// Wrong arguments of `fdsplice` give one error line and exit status 2. --help and --version print and succeed.
import { readFileSync } from 'node:fs';

import test from 'ava';

import { runCli } from '../helpers/cli/cli.js';

const PORT = '127.0.0.1:0';
const TARGET = '127.0.0.1:80';

type Mistake = [args: string[], message: RegExp];

// Wrong arguments and a pattern of the error line.
const mistakes: Mistake[] = [
  [[], /a command is missing/],
  [['relai'], /'relai'/],
  [['--frobnicate'], /'--frobnicate'/],
  [['relay'], /'listen'/],
  [['relay', PORT], /'target'/],
  [['relay', PORT, TARGET, 'more'], /'target'.* a port is missing/i],
  [['relay', '--frobnicate', PORT, TARGET], /'--frobnicate'/],
  [['relay', '--js\n\u001b[2Jon', PORT, TARGET], /'--js\\u000a\\u001b\[2Jon'/],
  [['relay', 'localhost', TARGET], /'listen'.* a port is missing/i],
  [['relay', '[::1]', TARGET], /'listen'.* a port is missing/i],
  [['relay', '::1:80', TARGET], /'listen'.* brackets/],
  [['relay', '[::g]:80', TARGET], /'listen'.*"::g"/],
  [['relay', '127.0.0.1:65536', TARGET], /'listen'.*"65536"/],
  [['relay', '127.0.0.1:http', TARGET], /'listen'.*"http"/],
  [['relay', '127.0.0.1:-1', TARGET], /'listen'.*"-1"/],
  [['relay', '127.0.0.1:', TARGET], /'listen'.*""/],
  [['relay', 'tcp://host:80', TARGET], /'listen'.*"tcp:\/\/host"/],
  [['relay', 'unix:', TARGET], /'listen'.* a path is missing/i],
  [['relay', `unix:/${'x'.repeat(107)}`, TARGET], /'listen'.* 107 bytes/],
  [['relay', PORT, ':80'], /'target'.* a host/],
  [['relay', PORT, '127.0.0.1:0'], /'target'.* port 0/i],
  [['relay', PORT, TARGET, TARGET, ':80'], /'target'.* a host/],
  [['relay', '--balance', 'random', PORT, TARGET], /'--balance <way>'.*'random'.*round-robin/],
  [['relay', '--connect-timeout', '0', PORT, TARGET], /'--connect-timeout <duration>'/],
  ...['0', '-1s', '', 'soon', '10 parsecs', '1e999s', '30d'].map((value): Mistake => [
    ['relay', '--grace', value, PORT, TARGET],
    /'--grace <duration>'/,
  ]),
  ...['--idle-timeout', '--half-close-timeout', '--stats'].map((option): Mistake => [
    ['relay', option, 'soon', PORT, TARGET],
    new RegExp(`'${option} <(duration|interval)>'`),
  ]),
  ...['0', '-1MiB', '0.5', '', 'fast', '10M', '1e3', '10MiB/s', 'Infinity', '9'.repeat(400)].map(
    (value): Mistake => [['relay', '--rate-limit', value, PORT, TARGET], /'--rate-limit <size>'/],
  ),
  [['copy'], /'source'/],
  [['copy', '-'], /'destination'/],
  [['copy', '-', '-', '-'], /too many arguments/],
  [['copy', '', '-'], /'source'.* a path is missing/i],
  [['copy', '-', 'tcp:localhost'], /'destination'.* a port is missing/i],
  [['copy', '-', 'tcp::80'], /'destination'.* a host/],
  [['copy', '-', 'tcp:unix:/path'], /'destination'.* a host and a port/i],
  [['copy', '-', 'unix:'], /'destination'.* a path is missing/i],
  [['copy', 'listen:80', '-'], /'source'.* a port is missing/i],
  [['copy', '--rate-limit', '10 parsecs', '-', '-'], /'--rate-limit <size>'/],
  [['copy', '--idle-timeout', '0', '-', '-'], /'--idle-timeout <duration>'/],
  [['copy', '--half-close-timeout', '1s', '-', '-'], /'--half-close-timeout'/],
  [['copy', '--stats', '1s', '-', '-'], /'--stats'/],
  ...['0', '-1', '1.5', '', '1k', '1e3', '9'.repeat(20)].map((value): Mistake => [
    ['relay', '--max-connections', value, PORT, TARGET],
    /'--max-connections <n>'/,
  ]),
];

for (const [args, message] of mistakes) {
  test.serial(`wrong arguments are rejected: fdsplice ${JSON.stringify(args).slice(1, -1)}`, async (t) => {
    const { status, stdout, stderr } = await runCli(...args);
    t.is(status, 2);
    t.is(stdout, '');
    t.regex(stderr, /^fdsplice: [^\n]+\n$/);
    t.regex(stderr, message);
  });
}

test('--version prints the version of the package', async (t) => {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  const { version } = JSON.parse(manifest) as { version: string };
  t.deepEqual(await runCli('--version'), { status: 0, stdout: `${version}\n`, stderr: '' });
});

test('--help prints the commands', async (t) => {
  const { status, stdout, stderr } = await runCli('--help');
  t.is(status, 0);
  t.regex(stdout, /relay \[options\] <listen> <target\.\.\.>/);
  t.regex(stdout, /copy \[options\] <source> <destination>/);
  t.is(stderr, '');
});

const COMMON = ['--connect-timeout', '--help', '--idle-timeout', '--json', '--quiet', '--rate-limit'];
const OPTIONS = {
  relay: [...COMMON, '--balance', '--grace', '--half-close-timeout', '--max-connections', '--stats'],
  copy: COMMON,
};

for (const [command, expected] of Object.entries(OPTIONS)) {
  test(`${command} --help prints every option`, async (t) => {
    const { status, stdout, stderr } = await runCli(command, '--help');
    t.is(status, 0);
    t.is(stderr, '');
    const options = [...stdout.matchAll(/^ +(?:-\w, )?(--[a-z-]+)/gm)].map(([, option]) => option);
    t.deepEqual(options.sort(), expected.sort());
  });
}
