// Names with addresses of one family or both, and addresses that do not answer. The child of each test has namespaces of its
// own: another /etc/hosts, and a network without a way out.
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';

import test, { type ExecutionContext } from 'ava';

import { ended, nodeArguments, started } from '../helpers/copy-child.js';
import { isNative, nativeTest } from '../helpers/engine.js';
import { directory } from '../helpers/local-peers.js';

/** Flags of unshare(1) that give this user namespaces for mounts and the network. */
const flags = ['-mn', '-rmn'].find((flag) => spawnSync('unshare', [flag, 'true']).status === 0);

function missing(): string | undefined {
  if (flags === undefined) return 'unshare gives no namespaces';
  return spawnSync('ip', ['-V']).status === 0 ? undefined : 'ip is not installed';
}

/** A serial test in namespaces. If none can be made, it is skipped with the reason in its title. */
function testInNamespace(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  const reason = missing();
  if (reason === undefined) test.serial(title, body);
  else if (process.env['FDSPLICE_REQUIRE_TOOLS'] === '1') test.serial(title, (t) => t.fail(reason));
  else test.serial.skip(`${title} (${reason})`, body);
}

const HOSTS = `
127.0.0.1 localhost only4.test
::1 only6.test
::1 dual.test
127.0.0.1 dual.test
2001:db8::9 half.test
127.0.0.1 half.test
192.0.2.9 hole.test
`;

/** Packets to 192.0.2.9 and 2001:db8::9 go to a machine that does not exist. */
const NETWORK = `
mount --bind "$1" /etc/hosts
ip link set lo up
ip link add hole0 type veth peer name hole1
ip address add 192.0.2.1/24 dev hole0
ip address add 2001:db8::1/64 dev hole0 nodad
ip link set hole0 up
ip link set hole1 up
ip neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev hole0 nud permanent
ip neighbour add 2001:db8::9 lladdr 02:00:00:00:00:09 dev hole0 nud permanent
shift
exec "$@"
`;

const PRELUDE = `
  import net from 'node:net';
  import { once } from 'node:events';
  import { connect } from 'fdsplice';
  const listening = async (host) => {
    const server = net.createServer((socket) => socket.on('error', () => {})).listen(0, host);
    await once(server, 'listening');
    return server.address().port;
  };
  /** The address that has answered, or the error. */
  const outcome = (target, options) =>
    connect(target, options).then(
      (connection) => (connection.close(), connection.remoteAddress.address),
      ({ code, syscall }) => code + ' ' + syscall,
    );
  const print = (value) => {
    console.log(JSON.stringify(value));
    process.exit();
  };
`;

async function printed(t: ExecutionContext, program: string): Promise<unknown> {
  const hosts = `${await directory(t)}/hosts`;
  await writeFile(hosts, HOSTS);
  const node = [process.execPath, ...nodeArguments(`${PRELUDE}\n${program}`)];
  const script = ['sh', '-ec', NETWORK, 'sh', hosts, ...node];
  const child = started(t, 'unshare', [flags ?? '', ...script], ['ignore', 'pipe', 'pipe']);
  const { code, stdout, stderr } = await ended(child, 60_000);
  t.is(code, 0, stderr);
  return JSON.parse(stdout.toString());
}

testInNamespace('a name may have IPv4 addresses, IPv6 addresses, or both', async (t) => {
  const program = `
    const [port4, port6] = [await listening('127.0.0.1'), await listening('::1')];
    print([
      await outcome('only4.test:' + port4),
      await outcome('only6.test:' + port6),
      await outcome('only4.test:' + port6),
      await outcome('dual.test:' + port4),
      await outcome('dual.test:' + port6),
    ]);
  `;
  const expected = ['127.0.0.1', '::1', 'ECONNREFUSED connect', '127.0.0.1', '::1'];
  t.deepEqual(await printed(t, program), expected);
});

testInNamespace('localAddress leaves only the addresses of its family', async (t) => {
  const program = `
    const [port4, port6] = [await listening('127.0.0.1'), await listening('::1')];
    print([
      await outcome('dual.test:' + port4, { localAddress: '127.0.0.2' }),
      await outcome('dual.test:' + port6, { localAddress: '::1' }),
      await outcome('dual.test:' + port4, { localAddress: '::1' }),
      (await outcome('only4.test:' + port4, { localAddress: '::1' })).split(' ')[1],
    ]);
  `;
  t.deepEqual(await printed(t, program), ['127.0.0.1', '::1', 'ECONNREFUSED connect', 'getaddrinfo']);
});

testInNamespace('an address that does not answer does not hold up the other one', async (t) => {
  const program = `
    const port = await listening('127.0.0.1');
    const startedAt = performance.now();
    const address = await outcome('half.test:' + port, { timeout: 50_000 });
    print([address, performance.now() - startedAt]);
  `;
  const [address, ms] = (await printed(t, program)) as [string, number];
  t.is(address, '127.0.0.1');
  t.log(`${Math.round(ms)} ms`);
  // The IPv6 address comes first in the list of the resolver. It is given 250 ms before the next one is tried.
  t.true(ms > 200 && ms < 20_000, `${ms}`);
});

testInNamespace(
  'a target that does not answer fails with ETIMEDOUT, by its address and by its name',
  async (t) => {
    const program = `
    print(await Promise.all([
      outcome('192.0.2.9:80', { timeout: 300 }),
      outcome('hole.test:80', { timeout: 300 }),
      outcome({ host: '2001:db8::9', port: 80, connectTimeout: 300 }),
    ]));
  `;
    t.deepEqual(await printed(t, program), Array(3).fill('ETIMEDOUT connect'));
  },
);

// Without the core, the event loop itself connects.
const testInCore = isNative ? testInNamespace : nativeTest;

testInCore('connects to a name go on while the event loop is busy', async (t) => {
  const program = `
    const port = await listening('127.0.0.1');
    const all = Array.from({ length: 200 }, () => connect('only4.test:' + port));
    const busyUntil = performance.now() + 2000;
    while (performance.now() < busyUntil);
    const times = (await Promise.all(all)).map(({ connectMs }) => connectMs);
    print(Math.max(...times));
  `;
  const longest = (await printed(t, program)) as number;
  t.true(longest < 2000, `${longest} ms`);
});
