import assert from 'node:assert/strict';
import { test } from 'node:test';

import { InvalidEntry, Journal, LONGEST_TEXT, MOST_ENTRIES } from '../journal.js';
import { escape, page } from '../page.js';
import { Redis } from '../redis.js';
import { FakeRedis } from './fake-redis.js';

const NOW = new Date('2026-11-20T10:00:00Z');

async function journal(t) {
  const server = await new FakeRedis().listen();
  const redis = new Redis({ port: server.port, timeout: 10_000 }).start();
  t.after(async () => {
    await redis.close();
    await server.close();
  });
  return { server, journal: new Journal(redis, () => NOW) };
}

test('entries come back newest first', async (t) => {
  const { journal: j } = await journal(t);
  await j.add({ text: '  first\r\nline ', author: 'Ada' });
  const second = await j.add({ text: 'zweite ✓' });
  assert.deepEqual(second, { id: 2, at: NOW.toISOString(), author: 'anonymous', text: 'zweite ✓' });
  assert.deepEqual(await j.list(), [second, { id: 1, at: NOW.toISOString(), author: 'Ada', text: 'first\nline' }]);
  assert.deepEqual(await j.list(1), [second]);
});

test('only so many entries are kept', async (t) => {
  const { journal: j, server } = await journal(t);
  await j.add({ text: 'x' });
  assert.ok(server.commands.includes(`LTRIM journal:entries 0 ${MOST_ENTRIES - 1}`));
  assert.equal((await j.list(1e9)).length, 1);
  assert.ok(server.commands.includes(`LRANGE journal:entries 0 ${MOST_ENTRIES - 1}`));
});

test('what is not an entry is refused before anything is written', async (t) => {
  const { journal: j, server } = await journal(t);
  const wrong = [undefined, null, {}, { text: 7 }, { text: ' \u0000\n' }, { text: 'x'.repeat(LONGEST_TEXT + 1) }, { text: 'x', author: [] }];
  for (const input of wrong) await assert.rejects(j.add(input), InvalidEntry, JSON.stringify(input));
  assert.deepEqual(server.commands, []);
});

test('rows that another program wrote are left out', async (t) => {
  const { journal: j, server } = await journal(t);
  await j.add({ text: 'good' });
  server.lists.get('journal:entries').push('not json', '{"id":"x"}', 'null', '[]');
  assert.deepEqual((await j.list()).map((entry) => entry.text), ['good']);
});

test('it is reachable as long as Redis answers', async (t) => {
  const { journal: j, server } = await journal(t);
  assert.equal(await j.reachable(), true);
  server.silent = true;
  t.mock.timers.enable({ apis: ['setTimeout'] }); // the time that it waits for Redis passes at once
  const reachable = j.reachable();
  t.mock.timers.tick(10_000);
  assert.equal(await reachable, false);
  t.mock.timers.reset();
});

test('nothing that people write becomes HTML', () => {
  const evil = `<script>alert("1")</script>'&`;
  assert.equal(escape(evil), '&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39;&amp;');
  const html = page({ entries: [{ id: 1, at: evil, author: evil, text: evil }], version: evil, host: evil, problem: evil });
  assert.ok(!html.includes('<script'));
});

test('the page says when the journal is empty and when it cannot be read', () => {
  assert.match(page({ entries: [], version: '1', host: 'h' }), /Nothing has been written yet/);
  assert.match(page({ entries: null, version: '1', host: 'h' }), /cannot be read right now/);
});
