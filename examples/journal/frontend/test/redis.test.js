import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';

import { Parser, Redis, ReplyError, Unavailable, encode } from '../redis.js';
import { FakeRedis } from './fake-redis.js';

const WIRE = '+OK\r\n-ERR no\r\n:-42\r\n$5\r\nh\u00e9\r\n\r\n$0\r\n\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n*1\r\n$1\r\na\r\n';
const REPLIES = ['OK', 'ERR no', -42, 'h\u00e9\r\n', '', null, null, [1, ['a']]];
const plain = (replies) => replies.map((reply) => (reply instanceof ReplyError ? reply.message : reply));

// Most of the time they wait: all at once.
describe('the Redis client', { concurrency: true }, () => {
  test('replies are read from one piece', () => {
    assert.deepEqual(plain(new Parser().feed(Buffer.from(WIRE))), REPLIES);
  });

  test('replies are read wherever the pieces are cut', () => {
    const bytes = Buffer.from(WIRE);
    for (let size = 1; size < 12; size++) {
      const parser = new Parser();
      const replies = [];
      for (let at = 0; at < bytes.length; at += size) replies.push(...parser.feed(bytes.subarray(at, at + size)));
      assert.deepEqual(plain(replies), REPLIES, `pieces of ${size}`);
    }
  });

  test('what is not RESP is refused', () => {
    for (const wire of ['HTTP/1.1 400\r\n', '$x\r\n', '$99999999999\r\n', '*-5\r\n', ':1.5\r\n', '$1\r\nab\r\n', '+a\n', '*1\r\n'.repeat(20)]) {
      assert.throws(() => new Parser().feed(Buffer.from(wire)), Unavailable, JSON.stringify(wire));
    }
    assert.throws(() => new Parser().feed(Buffer.alloc(70_000, 'x')), Unavailable);
  });

  test('commands are encoded with lengths in bytes', () => {
    assert.equal(encode(['SET', 'k', 'é', 7]), '*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\né\r\n$1\r\n7\r\n');
  });

  async function pair(t, options = {}) {
    const server = await new FakeRedis().listen();
    const redis = new Redis({ port: server.port, timeout: 10_000, ...options }).start();
    t.after(async () => {
      await redis.close();
      await server.close();
    });
    return { server, redis };
  }

  test('commands sent together are answered in order', async (t) => {
    const { redis, server } = await pair(t);
    server.slowly = true;
    const replies = await Promise.all([redis.command('INCR', 'n'), redis.command('PING'), redis.command('INCR', 'n')]);
    assert.deepEqual(replies, [1, 'PONG', 2]);
  });

  test('an error reply fails its command only', async (t) => {
    const { redis } = await pair(t);
    const [bad, good] = await Promise.allSettled([redis.command('FLY'), redis.command('PING')]);
    assert.ok(bad.reason instanceof ReplyError && bad.reason.message.includes('FLY'));
    assert.equal(good.value, 'PONG');
  });

  test('a lost connection fails what was sent and comes back by itself', async (t) => {
    const { redis, server } = await pair(t);
    await redis.command('PING').catch(() => {});
    server.silent = true;
    const lost = redis.command('INCR', 'n');
    while (server.commands.length < 2) await new Promise(setImmediate);
    server.drop();
    await assert.rejects(lost, Unavailable);
    server.silent = false;
    // A busy machine may be late once more; what comes must be the answer to this question.
    const ask = (tries) => redis.command('PING').catch((error) => (tries > 0 ? ask(tries - 1) : Promise.reject(error)));
    assert.equal(await ask(50), 'PONG');
  });

  test('a server that is not there yet is waited for', async (t) => {
    const port = await freePort();
    const redis = new Redis({ port }).start();
    const server = new FakeRedis();
    t.after(async () => {
      await redis.close();
      await server.close();
    });
    const reply = redis.command('PING');
    await new Promise((resolve) => setTimeout(resolve, 60));
    await server.listen(port);
    assert.equal(await reply, 'PONG');
  });

  test('a server that is never there is an error that names it', async (t) => {
    const port = await freePort();
    const redis = new Redis({ port, timeout: 50 }).start();
    t.after(() => redis.close());
    await assert.rejects(redis.command('PING'), new RegExp(`no connection to Redis at 127.0.0.1:${port}`));
  });

  test('a server that does not answer is given up, and the next answer is not taken for the last', async (t) => {
    const { redis, server } = await pair(t, { timeout: 150 });
    // A busy machine may be late; what comes must be the answer to this question.
    const ask = (tries) => redis.command('PING').catch((error) => (tries > 0 ? ask(tries - 1) : Promise.reject(error)));
    assert.equal(await ask(50), 'PONG');
    server.silent = true;
    await assert.rejects(redis.command('INCR', 'n'), /did not answer in time/);
    server.silent = false;
    assert.equal(await ask(50), 'PONG');
  });

  test('something else on the port is not taken for Redis', async (t) => {
    const other = net.createServer((socket) => socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    const redis = new Redis({ port: other.address().port, timeout: 100 }).start();
    t.after(async () => {
      await redis.close();
      other.close();
    });
    await assert.rejects(redis.command('PING'), Unavailable);
  });

  test('after closing nothing is sent', async (t) => {
    const { redis } = await pair(t);
    await redis.close();
    await assert.rejects(redis.command('PING'), /closed/);
  });

  async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
  }
});
