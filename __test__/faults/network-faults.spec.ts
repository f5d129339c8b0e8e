// Network faults, in network namespaces that the test makes and removes: two hosts and a cable between them. nftables
// drops the packets, because netem is missing in some kernels.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';

import test, { type ExecutionContext } from 'ava';

import { nodeArguments } from '../helpers/copy-child.js';
import { within } from '../helpers/wait.js';

/** An absolute path, because npm puts another program named nft first in the path. */
const NFT = '/usr/sbin/nft';

const AS_ROOT = process.getuid?.() === 0 ? [] : ['sudo', '-n'];

/** The reason why namespaces cannot be made, if there is one. */
function missing(): string | undefined {
  if (AS_ROOT.length > 0 && spawnSync('sudo', ['-n', 'true']).status !== 0)
    return 'needs root for network namespaces';
  for (const [tool, flag] of [
    ['ip', '-V'],
    [NFT, '--version'],
  ] as const) {
    if (spawnSync(tool, [flag]).status !== 0) return `${tool} is not installed`;
  }
  return undefined;
}

/** A serial test with a network. If none can be made, it is skipped with the reason in its title. */
function testInNetwork(title: string, body: (t: ExecutionContext, network: Network) => Promise<void>): void {
  const reason = missing();
  const run = async (t: ExecutionContext) => {
    const network = new Network();
    t.teardown(() => network.remove());
    network.make();
    await body(t, network);
  };
  if (reason === undefined) test.serial(title, run);
  else if (process.env['FDSPLICE_REQUIRE_TOOLS'] === '1') test.serial(title, (t) => t.fail(reason));
  else test.serial.skip(`${title} (${reason})`, run);
}

function asRoot(...command: string[]) {
  const [program = '', ...args] = [...AS_ROOT, ...command];
  return spawnSync(program, args, { encoding: 'utf8' });
}

function must(...command: string[]): void {
  const { status, stderr } = asRoot(...command);
  if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
}

/** Two namespaces: relays run in `gateway`, peers in `far`. */
class Network {
  readonly gateway = `fdsplice-${process.pid}-g`;
  readonly far = `fdsplice-${process.pid}-f`;

  make(): void {
    must('ip', 'netns', 'add', this.gateway);
    must('ip', 'netns', 'add', this.far);
    must(
      'ip',
      'link',
      'add',
      'fds0',
      'netns',
      this.gateway,
      'type',
      'veth',
      'peer',
      'name',
      'fds0',
      'netns',
      this.far,
    );
    for (const [name, host] of [
      [this.gateway, 1],
      [this.far, 2],
    ] as const) {
      must('ip', '-n', name, 'address', 'add', `10.77.0.${host}/24`, 'dev', 'fds0');
      must('ip', '-n', name, 'address', 'add', `fd77::${host}/64`, 'dev', 'fds0', 'nodad');
      must('ip', '-n', name, 'link', 'set', 'lo', 'up');
      must('ip', '-n', name, 'link', 'set', 'fds0', 'up');
    }
  }

  remove(): void {
    for (const name of [this.gateway, this.far]) asRoot('ip', 'netns', 'del', name);
  }

  /** Adds a rule for incoming packets, at the far side by default. */
  nft(rule: string, namespace = this.far): void {
    const rules = `table inet t { chain c { type filter hook input priority 0; ${rule}; }; }`;
    must('ip', 'netns', 'exec', namespace, NFT, rules);
  }

  mtu(bytes: number): void {
    for (const name of [this.gateway, this.far])
      must('ip', '-n', name, 'link', 'set', 'fds0', 'mtu', String(bytes));
  }

  /** Starts a program in a namespace and reads its lines. */
  run(t: ExecutionContext, namespace: string, body: string) {
    const command = ['ip', 'netns', 'exec', namespace, process.execPath, ...nodeArguments(body)];
    const [program = '', ...args] = [...AS_ROOT, ...command];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    // The program also exits at the end of its input, because only root may kill it.
    t.teardown(() => child.stdin.end() && child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return {
      line: async (event: string) => String((await within(60_000, event, lines.next())).value),
    };
  }
}

const COMMON = `
  import { createHash } from 'node:crypto';
  import { once } from 'node:events';
  import net from 'node:net';
  import { createInterface } from 'node:readline';
  const commands = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
`;

/** The far side: an origin that reads to the end of each connection and prints the hash. */
const origin = (host: string) => `${COMMON}
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    let bytes = 0;
    socket.on('error', () => {});
    socket.on('data', (data) => { bytes += data.length; hash.update(data); });
    socket.on('end', () => { socket.end('thanks'); console.log(bytes, hash.digest('hex')); });
  });
  server.listen(7000, '${host}', () => console.log('listening'));
  await commands.next();
  process.exit(0);
`;

/** The gateway: relays to the origin, and is its own client, which sends `bytes` bytes. */
const gateway = (host: string, bytes: number, options: object) => `${COMMON}
  import { relay, stats } from 'fdsplice';
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, async (client) => {
    const transfer = relay(
      client, net.connect({ port: 7000, host: '${host}', allowHalfOpen: true }),
      { reject: false, ...${JSON.stringify(options)} },
    );
    const flowing = setInterval(() => {
      if (transfer.traffic.tx < 1_000_000) return;
      clearInterval(flowing);
      if (${bytes} > 2 ** 32) console.log('flowing');
    }, 5);
    const { tx, rx, error } = await transfer;
    const { active, pipes } = stats();
    console.log(JSON.stringify({ tx, rx, code: error?.code ?? null, side: error?.side ?? null, active, leased: pipes.leased }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect({ port: server.address().port, allowHalfOpen: true }).on('error', () => {});
  client.resume();
  const gone = new Promise((resolve) => client.once('close', resolve));
  const hash = createHash('sha256');
  const block = Buffer.alloc(1 << 16, 'fdsplice, a period of seventeen');
  for (let left = ${bytes}; left > 0 && !client.destroyed; left -= block.length) {
    const part = block.subarray(0, Math.min(left, block.length));
    hash.update(part);
    if (!client.write(part)) await Promise.race([once(client, 'drain').catch(() => {}), gone]);
  }
  client.end();
  console.log(hash.digest('hex'));
  await commands.next();
  process.exit(0);
`;

const BYTES = 3_000_001;

const HOSTS = [
  ['IPv4', '10.77.0.2'],
  ['IPv6', 'fd77::2'],
] as const;

for (const [family, host] of HOSTS) {
  for (const mtu of family === 'IPv4' ? [1500, 576] : [1500, 1280]) {
    testInNetwork(`all bytes arrive over ${family} with an MTU of ${mtu}`, async (t, network) => {
      network.mtu(mtu);
      const far = network.run(t, network.far, origin(host));
      t.is(await far.line('the origin listens'), 'listening');
      const near = network.run(t, network.gateway, gateway(host, BYTES, {}));
      const hash = await near.line('all bytes are sent');
      t.is(await far.line('all bytes have arrived'), `${BYTES} ${hash}`);
      const ending = JSON.parse(await near.line('the relay ends')) as unknown;
      t.deepEqual(ending, { tx: BYTES, rx: 6, code: null, side: null, active: 0, leased: 0 });
    });
  }
}

testInNetwork('a relay to a peer that is lost amid bulk ends by its idle timeout', async (t, network) => {
  const far = network.run(t, network.far, origin('10.77.0.2'));
  t.is(await far.line('the origin listens'), 'listening');
  const near = network.run(t, network.gateway, gateway('10.77.0.2', 2 ** 40, { idleTimeout: 1500 }));
  t.is(await near.line('bytes flow'), 'flowing');
  network.nft('drop');
  let line = await near.line('the relay ends');
  // The hash of the client may come first, once its connection is reset.
  if (!line.startsWith('{')) line = await near.line('the relay ends');
  const { tx, ...ending } = JSON.parse(line) as Record<string, unknown>;
  t.deepEqual(ending, { rx: 0, code: 'ERR_IDLE_TIMEOUT', side: null, active: 0, leased: 0 });
  t.true(Number(tx) < 2 ** 40);
});

testInNetwork(
  'a relay reports a reset by a firewall amid bulk as a reset of that side',
  async (t, network) => {
    const far = network.run(t, network.far, origin('10.77.0.2'));
    t.is(await far.line('the origin listens'), 'listening');
    const near = network.run(t, network.gateway, gateway('10.77.0.2', 2 ** 40, {}));
    t.is(await near.line('bytes flow'), 'flowing');
    network.nft('meta l4proto tcp reject with tcp reset');
    let line = await near.line('the relay ends');
    if (!line.startsWith('{')) line = await near.line('the relay ends');
    const { tx, ...ending } = JSON.parse(line) as Record<string, unknown>;
    t.deepEqual(ending, { rx: 0, code: 'ECONNRESET', side: 'b', active: 0, leased: 0 });
    t.true(Number(tx) < 2 ** 40);
  },
);

for (const [family, host] of HOSTS) {
  testInNetwork(
    `all bytes arrive over ${family} with three percent packet loss in each direction`,
    async (t, network) => {
      // Only TCP packets: after three lost neighbour solicitations no connection would be made.
      for (const namespace of [network.gateway, network.far]) {
        network.nft('iifname "fds0" meta l4proto tcp numgen random mod 100 < 3 drop', namespace);
      }
      const far = network.run(t, network.far, origin(host));
      t.is(await far.line('the origin listens'), 'listening');
      const near = network.run(t, network.gateway, gateway(host, BYTES, {}));
      const hash = await near.line('all bytes are sent');
      t.is(await far.line('all bytes have arrived'), `${BYTES} ${hash}`);
      const ending = JSON.parse(await near.line('the relay ends')) as unknown;
      t.deepEqual(ending, { tx: BYTES, rx: 6, code: null, side: null, active: 0, leased: 0 });
    },
  );
}

/** The far side: an origin that sends back all it receives. */
const echo = `${COMMON}
  net.createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(7000, '10.77.0.2', () => console.log('listening'));
  await commands.next();
  process.exit(0);
`;

/** The gateway: relays one message and its answer, then nothing, until the relay ends. */
const silentGateway = (options: object) => `${COMMON}
  import { relay, stats } from 'fdsplice';
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (client) => {
    // Node makes the kernel send ten keep-alive probes, one a second, beginning a second after the last packet.
    const alive = { keepAlive: true, keepAliveInitialDelay: 1000 };
    const upstream = net.connect({ port: 7000, host: '10.77.0.2', allowHalfOpen: true, ...alive });
    const { tx, rx, error } = await relay(client, upstream, { reject: false, ...${JSON.stringify(options)} });
    const code = await gone;
    const { active, pipes } = stats();
    console.log(JSON.stringify({ tx, rx, code: error?.code, side: error?.side, client: code, active, leased: pipes.leased }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect(server.address().port);
  const gone = new Promise((resolve) => client.once('error', ({ code }) => resolve(code)).once('close', () => resolve('closed')));
  client.write('hello');
  console.log(String(await once(client, 'data')));
  await commands.next();
  process.exit(0);
`;

for (const [cause, options, code, side] of [
  ['TCP keep-alive', {}, 'ETIMEDOUT', 'b'],
  ['the idle timeout', { idleTimeout: 1500 }, 'ERR_IDLE_TIMEOUT', undefined],
] as const) {
  testInNetwork(`an idle relay to a lost peer is ended by ${cause}`, async (t, network) => {
    const far = network.run(t, network.far, echo);
    t.is(await far.line('the origin listens'), 'listening');
    const near = network.run(t, network.gateway, silentGateway(options));
    t.is(await near.line('the answer arrives'), 'hello');
    network.nft('drop');
    const ending = JSON.parse(await near.line('the relay ends')) as Record<string, unknown>;
    t.deepEqual(ending, {
      tx: 5,
      rx: 5,
      code,
      ...(side === undefined ? {} : { side }),
      client: 'ECONNRESET',
      active: 0,
      leased: 0,
    });
  });
}
