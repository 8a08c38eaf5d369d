// The page: plain HTML without scripts, so that a strict content security policy holds.

import { createHash } from 'node:crypto';

const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d8dde3, #3a424c); --soft: light-dark(#5b6570, #9aa5b1); --accent: light-dark(#0b63b5, #6cb6ff); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; }
header { display: flex; align-items: baseline; gap: .75rem; }
h1 { margin: 0; font-size: 1.6rem; }
.version { font: 12px ui-monospace, monospace; padding: .1rem .5rem; border: 1px solid var(--line); border-radius: 1rem; color: var(--accent); }
form { display: grid; gap: .5rem; margin: 1.5rem 0; }
textarea, input { font: inherit; width: 100%; padding: .5rem; border: 1px solid var(--line); border-radius: .4rem; background: transparent; color: inherit; }
button { font: inherit; justify-self: start; padding: .4rem 1.2rem; border: 0; border-radius: .4rem; background: var(--accent); color: light-dark(#fff, #06121f); cursor: pointer; }
ol { list-style: none; padding: 0; }
li { padding: .75rem 0; border-top: 1px solid var(--line); }
li p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
small, footer { color: var(--soft); }
.problem { border: 1px solid #c33; border-radius: .4rem; padding: .5rem .75rem; }
footer { margin-top: 2rem; font-size: .8rem; }
`;

const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');

/** What the page may do: show itself, and send its form to where it came from. */
export const POLICY = `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`;

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export function escape(text) {
  return String(text).replace(/[&<>"']/g, (c) => ESCAPES[c]);
}

/** The whole page. `entries` is null when the journal cannot be read. */
export function page({ entries, version, host, problem }) {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Journal</title>
<style>${STYLE}</style>
<header><h1>Journal</h1><span class="version">version ${escape(version)}</span></header>
${problem ? `<p class="problem" role="alert">${escape(problem)}</p>` : ''}
<form method="post" action="/entries">
<label>What happened? <textarea name="text" rows="3" maxlength="2000" required></textarea></label>
<label>Your name <input name="author" maxlength="60" autocomplete="name"></label>
<button>Write it down</button>
</form>
${list(entries)}
<footer>served by ${escape(host)}</footer>
</html>
`;
}

function list(entries) {
  if (entries === null) return '<p class="problem" role="alert">The journal cannot be read right now. Try again in a moment.</p>';
  if (entries.length === 0) return '<p>Nothing has been written yet.</p>';
  const items = entries.map(({ id, at, author, text }) => {
    const when = `<time datetime="${escape(at)}">${escape(at.slice(0, 16).replace('T', ' '))}</time>`;
    return `<li id="entry-${id}"><p>${escape(text)}</p><small>${escape(author)}, ${when}</small></li>`;
  });
  return `<ol>${items.join('\n')}</ol>`;
}
