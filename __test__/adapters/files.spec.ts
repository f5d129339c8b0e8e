// Packages that serve files, side by side with and without their adapter: status, headers, bodies and events are the same,
// and the core sends the bodies.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import test from 'ava';
import { stats } from 'fdsplice';
import { sendStream } from 'fdsplice/send';
import type send from 'send';

import { sha256 } from '../helpers/copy-files.js';
import { isNative } from '../helpers/engine.js';
import { nothingIsLeft } from '../helpers/left.js';
import { until } from '../helpers/wait.js';
import { site } from '../http/site.js';
import { fetchAnswer, oneConnection, publicFolder, type Served, SIZE, sites } from './sites.js';

nothingIsLeft(test, 'behind all tests');

/** What was seen of each response, once all streams are closed. */
async function eventsOf({ seen }: Served): Promise<unknown> {
  const isPiped = ({ response }: { response: string[] }) => response.includes('pipe');
  await until(
    'all streams are closed',
    () => seen.filter((each) => isPiped(each) && !each.source.includes('close')).length,
    (open) => open === 0,
  );
  return seen;
}

for (const [name, make] of Object.entries(sites)) {
  test(`${name}: answers and events are the same with the adapter`, async (t) => {
    const root = publicFolder(t);
    const [plain, adapted] = [
      await make(t, { root, adapter: false }),
      await make(t, { root, adapter: true }),
    ] as const;
    const agent = oneConnection(t);
    const { headers: known } = await fetchAnswer(plain.port, agent, { path: '/big.bin', method: 'HEAD' });
    plain.seen.length = 0;
    let sent = 0;
    for (const options of [
      { path: '/big.bin' },
      { path: '/big.bin', method: 'HEAD' },
      { path: '/big.bin', method: 'POST' },
      { path: '/big.bin', headers: { 'Accept-Encoding': 'br' } },
      { path: '/big.bin', headers: { 'Accept-Encoding': 'gzip' } },
      { path: '/big.bin', headers: { Range: 'bytes=5-900004' } },
      { path: '/big.bin', headers: { Range: 'bytes=5-9999999' } },
      { path: '/big.bin', headers: { Range: 'bytes=7-9' } },
      { path: '/big.bin', headers: { Range: 'bytes=-1' } },
      { path: '/big.bin', headers: { Range: `bytes=${SIZE}-` } },
      { path: '/big.bin', headers: { Range: 'bytes=0-1,4-5' } },
      { path: '/big.bin', headers: { 'If-None-Match': known.etag ?? 'W/"none"' } },
      { path: '/big.bin', headers: { 'If-Modified-Since': known['last-modified'] } },
      { path: '/big.bin', headers: { 'If-Match': '"other"' } },
      { path: '/big.bin', headers: { 'If-Range': '"other"', Range: 'bytes=0-9' } },
      { path: '/empty.txt' },
      { path: '/small.txt?query' },
      { path: '/folder/' },
      { path: '/folder' },
      { path: '/.hidden' },
      { path: '/missing' },
      { path: '/%2e%2e/secret' },
      { path: '/sub%00' },
      { path: '/%zz' },
    ]) {
      const expected = await fetchAnswer(plain.port, agent, options);
      const before = stats().tx;
      const found = await fetchAnswer(adapted.port, agent, options);
      sent += stats().tx - before;
      t.deepEqual(found, expected, JSON.stringify(options));
    }
    t.deepEqual(await eventsOf(adapted), await eventsOf(plain));
    const kinds = ({ errors }: Served) => errors.map(({ code, status }) => ({ code, status }));
    t.deepEqual(kinds(adapted), kinds(plain));
    if (isNative) t.true(sent > 3 * SIZE, `${sent} bytes by the core`);
    else t.is(sent, 0);
  });
}

/** The package without what another test has changed in it. */
function freshSend(): typeof send {
  const require = createRequire(import.meta.url);
  delete require.cache[require.resolve('send')];
  return require('send') as typeof send;
}

type Method = typeof sendStream;
const methods: Record<string, Method> = {
  'as it is': sendStream,
  'called by another function': function (this: unknown, ...args: unknown[]) {
    Reflect.apply(sendStream, this, args);
  },
};

for (const [name, stream] of Object.entries(methods)) {
  test(`the method on the prototype of send serves all files, ${name}`, async (t) => {
    const root = publicFolder(t);
    const own = freshSend();
    let isPrepared = false;
    const ends: string[] = [];
    const { port } = await site(t, (request, response) => {
      const answer = own(request, request.url ?? '/', { root });
      if (!isPrepared) Object.assign(Object.getPrototypeOf(answer) as object, { stream });
      isPrepared = true;
      answer.on('stream', () => ends.push('stream')).on('end', () => ends.push('end'));
      answer.on('error', ({ status }: { status: number }) => response.writeHead(status).end());
      answer.pipe(response);
    });
    const agent = oneConnection(t);
    const before = stats().tx;
    const { body } = await fetchAnswer(port, agent, { path: '/big.bin' });
    t.is(body, sha256(readFileSync(join(root, 'big.bin'))));
    t.is((await fetchAnswer(port, agent, { path: '/missing' })).status, 404);
    t.is(stats().tx - before >= SIZE, isNative);
    t.deepEqual(ends, ['stream', 'end']);
  });
}
