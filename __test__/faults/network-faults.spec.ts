// Faults of a network, in network namespaces of the test's own: two hosts and a cable between them, made and removed
// here. The kernel this was written on has no netem, so what is lost is dropped by nftables.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import test, { type ExecutionContext } from 'ava';

import { nodeArguments } from '../helpers/copy-child.js';
import { within } from '../helpers/wait.js';

/** Not the program of that name which npm puts first in the path: a tracer of imports. */
const NFT = '/usr/sbin/nft';

const AS_ROOT = process.getuid?.() === 0 ? [] : ['sudo', '-n'];

/** Whether namespaces can be made; otherwise the reason. */
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

/** Two namespaces: `gateway`, where relays run, and `far`, where peers do. */
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

  /** Rules for what comes in, at the far side if nothing else is said. */
  nft(rule: string, where = this.far): void {
    const rules = `table inet t { chain c { type filter hook input priority 0; ${rule}; }; }`;
    must('ip', 'netns', 'exec', where, NFT, rules);
  }

  mtu(bytes: number): void {
    for (const name of [this.gateway, this.far])
      must('ip', '-n', name, 'link', 'set', 'fds0', 'mtu', String(bytes));
  }

  /** A program in one of the namespaces, and the lines it prints. */
  run(t: ExecutionContext, where: string, body: string) {
    const command = ['ip', 'netns', 'exec', where, process.execPath, ...nodeArguments(body)];
    const [program = '', ...args] = [...AS_ROOT, ...command];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    // It ends with its input, too: who is not root cannot end it otherwise.
    t.teardown(() => child.stdin.end() && child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return {
      line: async (what: string) => String((await within(60_000, what, lines.next())).value),
      say: (text: string) => child.stdin.write(`${text}\n`),
      ended: () => once(child, 'close'),
    };
  }
}

const COMMON = `
  import { createHash } from 'node:crypto';
  import { once } from 'node:events';
  import net from 'node:net';
  import { createInterface } from 'node:readline';
  const said = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
`;

/** The far side: an origin that takes everything in and tells its hash, and goes on with \`then\`. */
const origin = (host: string) => `${COMMON}
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    let bytes = 0;
    socket.on('error', () => {});
    socket.on('data', (data) => { bytes += data.length; hash.update(data); });
    socket.on('end', () => { socket.end('thanks'); console.log(bytes, hash.digest('hex')); });
  });
  server.listen(7000, '${host}', () => console.log('listening'));
  await said.next();
  process.exit(0);
`;

/** The gateway: a client of its own that sends \`bytes\` through a relay to the origin. */
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
  await said.next();
  process.exit(0);
`;

const BYTES = 3_000_001;

const HOSTS = [
  ['IPv4', '10.77.0.2'],
  ['IPv6', 'fd77::2'],
] as const;

for (const [family, host] of HOSTS) {
  for (const mtu of family === 'IPv4' ? [1500, 576] : [1500, 1280]) {
    testInNetwork(`${family}, MTU ${mtu}: everything arrives`, async (t, network) => {
      network.mtu(mtu);
      const far = network.run(t, network.far, origin(host));
      t.is(await far.line('the origin listens'), 'listening');
      const near = network.run(t, network.gateway, gateway(host, BYTES, {}));
      const hash = await near.line('all is sent');
      t.is(await far.line('all has arrived'), `${BYTES} ${hash}`);
      const ending = JSON.parse(await near.line('the relay ends')) as unknown;
      t.deepEqual(ending, { tx: BYTES, rx: 6, code: null, side: null, active: 0, leased: 0 });
    });
  }
}

testInNetwork('a peer that is lost amid bulk is given up after the idle timeout', async (t, network) => {
  const far = network.run(t, network.far, origin('10.77.0.2'));
  t.is(await far.line('the origin listens'), 'listening');
  const near = network.run(t, network.gateway, gateway('10.77.0.2', 2 ** 40, { idleTimeout: 1500 }));
  t.is(await near.line('it flows'), 'flowing');
  network.nft('drop');
  let line = await near.line('the relay ends');
  // The client's own hash may come first, once its connection is reset.
  if (!line.startsWith('{')) line = await near.line('the relay ends');
  const { tx, ...ending } = JSON.parse(line) as Record<string, unknown>;
  t.deepEqual(ending, { rx: 0, code: 'ERR_IDLE_TIMEOUT', side: null, active: 0, leased: 0 });
  t.true(Number(tx) < 2 ** 40);
});

testInNetwork('a firewall that resets amid bulk is a reset of that side', async (t, network) => {
  const far = network.run(t, network.far, origin('10.77.0.2'));
  t.is(await far.line('the origin listens'), 'listening');
  const near = network.run(t, network.gateway, gateway('10.77.0.2', 2 ** 40, {}));
  t.is(await near.line('it flows'), 'flowing');
  network.nft('meta l4proto tcp reject with tcp reset');
  let line = await near.line('the relay ends');
  if (!line.startsWith('{')) line = await near.line('the relay ends');
  const { tx, ...ending } = JSON.parse(line) as Record<string, unknown>;
  t.deepEqual(ending, { rx: 0, code: 'ECONNRESET', side: 'b', active: 0, leased: 0 });
  t.true(Number(tx) < 2 ** 40);
});

for (const [family, host] of HOSTS) {
  testInNetwork(
    `${family}, three packets in a hundred lost each way: everything arrives`,
    async (t, network) => {
      // Of TCP alone: three lost questions for the neighbour's address, and there is no connection.
      for (const where of [network.gateway, network.far]) {
        network.nft('iifname "fds0" meta l4proto tcp numgen random mod 100 < 3 drop', where);
      }
      const far = network.run(t, network.far, origin(host));
      t.is(await far.line('the origin listens'), 'listening');
      const near = network.run(t, network.gateway, gateway(host, BYTES, {}));
      const hash = await near.line('all is sent');
      t.is(await far.line('all has arrived'), `${BYTES} ${hash}`);
      const ending = JSON.parse(await near.line('the relay ends')) as unknown;
      t.deepEqual(ending, { tx: BYTES, rx: 6, code: null, side: null, active: 0, leased: 0 });
    },
  );
}

/** The far side: what it gets it sends back. */
const echo = `${COMMON}
  net.createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(7000, '10.77.0.2', () => console.log('listening'));
  await said.next();
  process.exit(0);
`;

/** The gateway: one message there and back, then silence, until something ends the relay. */
const silentGateway = (options: object) => `${COMMON}
  import { relay, stats } from 'fdsplice';
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (client) => {
    // Probes a second after the last sign of life, each second, ten of them: what Node asks the system for.
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
  await said.next();
  process.exit(0);
`;

for (const [what, options, code, side] of [
  ['its keep-alive', {}, 'ETIMEDOUT', 'b'],
  ['the idle timeout', { idleTimeout: 1500 }, 'ERR_IDLE_TIMEOUT', undefined],
] as const) {
  testInNetwork(`a half-dead connection on which nothing moves is ended by ${what}`, async (t, network) => {
    const far = network.run(t, network.far, echo);
    t.is(await far.line('the origin listens'), 'listening');
    const near = network.run(t, network.gateway, silentGateway(options));
    t.is(await near.line('there and back'), 'hello');
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
