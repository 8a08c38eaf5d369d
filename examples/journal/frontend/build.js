// Makes `dist/`: what runs, checked, with a manifest of what it is made of. The same sources give the same bytes.

import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const ENTRY = 'server.js';

/** The modules that `entry` imports from this directory, itself included, in the order of their names. */
export async function modules(root, entry = ENTRY, found = new Map()) {
  if (found.has(entry)) return found;
  const source = await readFile(path.join(root, entry), 'utf8');
  found.set(entry, source);
  for (const [, name] of source.matchAll(/^import[^'"]*['"]\.\/([^'"]+)['"];?$/gm)) {
    await modules(root, name, found);
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

export async function build(root, dist) {
  const files = await modules(root);
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist, { recursive: true });
  const manifest = { entry: ENTRY, files: {} };
  for (const [name, source] of files) {
    await copyFile(path.join(root, name), path.join(dist, name));
    manifest.files[name] = `sha256:${createHash('sha256').update(source).digest('hex')}`;
  }
  const { name, type } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'));
  await writeFile(path.join(dist, 'package.json'), `${JSON.stringify({ name, type })}\n`);
  // Importing what was built finds syntax errors and imports that lead nowhere.
  const built = await import(pathToFileURL(path.join(dist, ENTRY)));
  if (typeof built.main !== 'function') throw new Error(`${ENTRY} has no main()`);
  const { version } = await import(pathToFileURL(path.join(dist, 'version.js')));
  manifest.version = version;
  await writeFile(path.join(dist, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const here = path.dirname(process.argv[1]);
  const manifest = await build(here, path.join(here, 'dist'));
  console.log(`built ${manifest.version}: ${Object.keys(manifest.files).join(', ')}`);
}
