import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { build, modules } from '../build.js';
import { version } from '../version.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

async function directory(t) {
  const made = await mkdtemp(path.join(os.tmpdir(), 'journal-'));
  t.after(() => rm(made, { recursive: true }));
  return made;
}

test('what is built is what the server imports, and the same each time', async (t) => {
  const [one, two] = [await directory(t), await directory(t)];
  const manifest = await build(ROOT, one);
  await build(ROOT, two);
  assert.deepEqual(Object.keys(manifest.files), ['journal.js', 'page.js', 'redis.js', 'server.js', 'version.js']);
  assert.equal(manifest.version, version);
  const names = await readdir(one);
  assert.deepEqual(names, await readdir(two));
  for (const name of names) assert.deepEqual(await readFile(path.join(one, name)), await readFile(path.join(two, name)));
});

test('a module that is not there, and one that cannot be read, fail the build', async (t) => {
  const root = await directory(t);
  await writeFile(path.join(root, 'server.js'), "import './gone.js';\n");
  await assert.rejects(modules(root), /ENOENT.*gone\.js/);
  await writeFile(path.join(root, 'server.js'), 'export function main( {\n');
  await writeFile(path.join(root, 'package.json'), '{"name":"x","type":"module"}');
  await assert.rejects(build(root, path.join(root, 'dist')), SyntaxError);
});
