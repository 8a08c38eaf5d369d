// The journal itself: entries in a Redis list, newest first.

const ENTRIES = 'journal:entries';
const NEXT = 'journal:next';

export const LONGEST_TEXT = 2000;
export const LONGEST_AUTHOR = 60;
/** How many entries are kept. */
export const MOST_ENTRIES = 1000;

/** What somebody wanted to write is not an entry; the message says why. */
export class InvalidEntry extends Error {
  name = 'InvalidEntry';
}

export class Journal {
  #redis;
  #now;

  /** `redis` has `command(...args)`; `now` gives the time as a Date. */
  constructor(redis, now = () => new Date()) {
    this.#redis = redis;
    this.#now = now;
  }

  /** Adds an entry and gives it back with its number. */
  async add(input) {
    const text = field(input?.text, 'text', LONGEST_TEXT);
    if (text === '') throw new InvalidEntry('an entry needs a text');
    const author = field(input?.author ?? '', 'author', LONGEST_AUTHOR) || 'anonymous';
    const id = await this.#redis.command('INCR', NEXT);
    const entry = { id, at: this.#now().toISOString(), author, text };
    await this.#redis.command('LPUSH', ENTRIES, JSON.stringify(entry));
    await this.#redis.command('LTRIM', ENTRIES, 0, MOST_ENTRIES - 1);
    return entry;
  }

  /** The newest entries, newest first. What is not an entry, because another program wrote it, is left out. */
  async list(most = 50) {
    const last = Math.min(Math.max(Math.trunc(most) || 1, 1), MOST_ENTRIES) - 1;
    const rows = await this.#redis.command('LRANGE', ENTRIES, 0, last);
    return rows.map(parse).filter((entry) => entry !== undefined);
  }

  /** Whether Redis answers. */
  async reachable() {
    try {
      return (await this.#redis.command('PING')) === 'PONG';
    } catch {
      return false;
    }
  }
}

function field(value, name, longest) {
  if (typeof value !== 'string') throw new InvalidEntry(`\`${name}\` must be a text`);
  // Control characters other than line break and tab have no place on a page.
  const text = value.replace(/\r\n?/g, '\n').replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '').trim();
  if (text.length > longest) throw new InvalidEntry(`\`${name}\` has ${text.length} characters, the limit is ${longest}`);
  return text;
}

function parse(row) {
  try {
    const { id, at, author, text } = JSON.parse(row);
    if (Number.isInteger(id) && [at, author, text].every((value) => typeof value === 'string')) return { id, at, author, text };
  } catch {
    // Left out below.
  }
  return undefined;
}
