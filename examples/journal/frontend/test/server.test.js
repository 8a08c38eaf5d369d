import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Journal } from '../journal.js';
import { Redis } from '../redis.js';
import { createServer } from '../server.js';
import { version } from '../version.js';
import { FakeRedis } from './fake-redis.js';

async function app(t, { timeout = 10_000, ...options } = {}) {
  const database = await new FakeRedis().listen();
  const redis = new Redis({ port: database.port, timeout }).start();
  const server = createServer({ journal: new Journal(redis), host: 'test-host', drainFor: 30, ...options });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${server.address().port}`;
  t.after(async () => {
    await server.drain();
    await redis.close();
    await database.close();
  });
  return { database, server, url };
}

const post = (url, body, type = 'application/json') => fetch(url, { method: 'POST', body, headers: { 'content-type': type }, redirect: 'manual' });

// Most of the time they wait: all at once.
describe('the server', { concurrency: true }, () => {
  test('the page shows what was written with the form', async (t) => {
    const { url } = await app(t);
    const written = await post(`${url}/entries`, 'text=Hello+%3Cb%3E&author=Ada', 'application/x-www-form-urlencoded');
    assert.equal(written.status, 303);
    assert.equal(written.headers.get('location'), '/#entry-1');
    const response = await fetch(url);
    const html = await response.text();
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-security-policy'), /default-src 'none'; style-src 'sha256-/);
    assert.match(html, /<li id="entry-1"><p>Hello &lt;b&gt;<\/p><small>Ada/);
    assert.match(html, new RegExp(`version ${version}`));
    assert.match(html, /served by test-host/);
  });

  test('entries are JSON for programs', async (t) => {
    const { url } = await app(t);
    const written = await post(`${url}/entries`, JSON.stringify({ text: 'one', author: 'Bo' }));
    assert.equal(written.status, 201);
    assert.equal((await written.json()).id, 1);
    await post(`${url}/entries`, JSON.stringify({ text: 'two' }));
    const read = await (await fetch(`${url}/entries?limit=1`)).json();
    assert.equal(read.version, version);
    assert.deepEqual(read.entries.map((entry) => entry.text), ['two']);
    assert.deepEqual(await (await fetch(`${url}/version`)).json(), { version, host: 'test-host' });
  });

  test('bad requests are answered with what is wrong', async (t) => {
    const { url } = await app(t);
    const cases = [
      [await post(`${url}/entries`, '{'), 400, 'the body is not JSON'],
      [await post(`${url}/entries`, '{}'), 400, '`text` must be a text'],
      [await post(`${url}/entries`, 'null'), 400, '`text` must be a text'],
      [await post(`${url}/entries`, 'x', 'text/plain'), 415, 'send application/json or a form'],
      [await post(`${url}/entries`, 'x'.repeat(20_000)), 413, 'more than 16384 bytes'],
      [await fetch(`${url}/nowhere`), 404, 'there is no such page'],
      [await fetch(`${url}/__proto__`), 404, 'there is no such page'],
      [await fetch(`${url}/entries`, { method: 'DELETE' }), 405, 'use GET or POST'],
    ];
    for (const [response, status, message] of cases) {
      assert.deepEqual([response.status, (await response.json()).error], [status, message]);
    }
    assert.equal((await fetch(url, { method: 'HEAD' })).status, 200);
  });

  test('without Redis it lives, is not ready, and says so politely', async (t) => {
    const { url, database } = await app(t, { timeout: 200 });
    const status = async (path) => (await fetch(url + path)).status;
    const ready = async () => {
      for (let tries = 0; (await status('/readyz')) !== 200; tries++) assert.ok(tries < 50, 'it does not become ready');
    };
    await ready();
    await database.close();
    assert.deepEqual(await Promise.all(['/healthz', '/readyz', '/', '/entries'].map(status)), [200, 503, 503, 503]);
    assert.equal((await post(`${url}/entries`, '{"text":"x"}')).status, 503);
    await database.listen(database.port);
    await ready();
  });

  test('draining loses no request and ends', async (t) => {
    const { server, url } = await app(t, { drainFor: 1000 });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
    t.after(() => agent.destroy());
    const get = (path) => new Promise((resolve, reject) => {
      http.get(url + path, { agent }, (response) => {
        response.resume().on('end', () => resolve(response));
      }).on('error', reject);
    });
    await Promise.all(Array.from({ length: 8 }, () => get('/entries')));
    const drained = server.drain();
    const during = await Promise.all(Array.from({ length: 8 }, () => get('/entries')));
    assert.ok(during.every((response) => response.statusCode === 200 && response.headers.connection === 'close'));
    assert.equal((await get('/readyz')).statusCode, 503);
    await drained;
    await assert.rejects(get('/healthz'));
  });

  test('a connection that never ends does not keep it from stopping', async (t) => {
    const { server, url } = await app(t, { drainFor: 10, giveUpAfter: 100 });
    const hanging = http.request(`${url}/entries`, { method: 'POST', headers: { 'content-type': 'application/json' } });
    hanging.on('error', () => {});
    hanging.write('{');
    await once(server, 'request');
    await server.drain();
  });

  test('as a process it starts fast, and ends with 0 on SIGTERM', async (t) => {
    const database = await new FakeRedis().listen();
    t.after(() => database.close());
    const entry = fileURLToPath(new URL('../server.js', import.meta.url));
    const env = { ...process.env, PORT: '0', HOST: '127.0.0.1', REDIS_PORT: String(database.port), JOURNAL_VERSION: 'from-env' };
    const child = spawn(process.execPath, [entry], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    let out = '';
    child.stdout.on('data', (chunk) => (out += chunk));
    const exit = once(child, 'exit');
    while (!out.includes('listens on port')) await once(child.stdout, 'data');
    assert.match(out, /journal from-env listens/);
    const port = /listens on port (\d+)/.exec(out)[1];
    assert.equal((await fetch(`http://127.0.0.1:${port}/readyz`)).status, 200);
    child.kill('SIGTERM');
    assert.deepEqual(await exit, [0, null]);
    assert.match(out, /SIGTERM: draining[\s\S]*ended/);
  });

  test('a port that is taken is an error, not a hanging process', async (t) => {
    const taken = http.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    t.after(() => taken.close());
    const entry = fileURLToPath(new URL('../server.js', import.meta.url));
    const env = { ...process.env, HOST: '127.0.0.1', PORT: String(taken.address().port) };
    const child = spawn(process.execPath, [entry], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (chunk) => (out += chunk));
    assert.deepEqual(await once(child, 'exit'), [1, null]);
    assert.match(out, /cannot listen: .*EADDRINUSE/);
  });
});
