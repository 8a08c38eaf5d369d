// The HTTP front end: routes, limits, health, and a stop that loses no request.

import http from 'node:http';
import os from 'node:os';
import { pathToFileURL } from 'node:url';

import { InvalidEntry, Journal } from './journal.js';
import { POLICY, page } from './page.js';
import { Redis } from './redis.js';
import { version } from './version.js';

const LARGEST_BODY = 16 * 1024;

class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * A server that is not listening yet. `drain()` stops it: while it drains it says so on /readyz and closes connections after their next
 * answer; then it stops to accept, and ends when the last connection has.
 */
export function createServer({ journal, log = () => {}, host = os.hostname(), drainFor = 250, giveUpAfter = 5000 }) {
  let draining = false;
  const server = http.createServer((request, response) => {
    if (draining) response.setHeader('connection', 'close');
    response.setHeader('x-journal-version', version);
    route(request, response).catch((error) => fail(response, error, log));
  });
  // Longer than proxies keep theirs, so that it is never this side that closes a connection just when a request is sent on it.
  server.keepAliveTimeout = 75_000;
  server.headersTimeout = 80_000;
  server.requestTimeout = 15_000;

  async function route(request, response) {
    if (!URL.canParse(request.url, 'http://journal')) throw new HttpError(400, 'the address cannot be read');
    const url = new URL(request.url, 'http://journal');
    const found = routes[url.pathname];
    if (!found) throw new HttpError(404, 'there is no such page');
    const method = request.method === 'HEAD' ? 'GET' : request.method;
    const handle = Object.hasOwn(found, method) ? found[method] : undefined;
    if (!handle) {
      response.setHeader('allow', Object.keys(found).join(', '));
      throw new HttpError(405, `use ${Object.keys(found).join(' or ')}`);
    }
    await handle({ request, response, url });
  }

  const routes = Object.assign(Object.create(null), {
    '/': {
      async GET({ response }) {
        let entries = null;
        try {
          entries = await journal.list();
        } catch (error) {
          log(`cannot read the journal: ${error.message}`);
        }
        html(response, entries === null ? 503 : 200, page({ entries, version, host }));
      },
    },
    '/entries': {
      async GET({ response, url }) {
        const most = Number(url.searchParams.get('limit') ?? 50);
        json(response, 200, { version, entries: await journal.list(most) });
      },
      async POST({ request, response }) {
        const { form, value } = await read(request);
        const entry = await journal.add(value);
        if (form) redirect(response, `/#entry-${entry.id}`);
        else json(response, 201, entry);
      },
    },
    '/healthz': {
      async GET({ response }) {
        text(response, 200, 'alive\n');
      },
    },
    '/readyz': {
      async GET({ response }) {
        if (draining) text(response, 503, 'draining\n');
        else if (await journal.reachable()) text(response, 200, 'ready\n');
        else text(response, 503, 'Redis does not answer\n');
      },
    },
    '/version': {
      async GET({ response }) {
        json(response, 200, { version, host });
      },
    },
  });

  function drain() {
    if (draining) return server.drained;
    draining = true;
    server.drained = new Promise((resolve) => {
      const force = setTimeout(() => {
        log(`connections are still open after ${giveUpAfter} ms, closing them`);
        server.closeAllConnections();
      }, giveUpAfter);
      // Who has this address from before may still send for a moment; idle connections are told to close with their next answer.
      setTimeout(() => {
        server.close(() => {
          clearTimeout(force);
          resolve();
        });
        server.closeIdleConnections();
      }, drainFor);
    });
    return server.drained;
  }

  return Object.assign(server, { drain });
}

async function read(request) {
  const type = (request.headers['content-type'] ?? '').split(';')[0].trim().toLowerCase();
  const chunks = [];
  let size = 0;
  // Leaving the loop must not close the connection: the answer that says why goes through it.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += chunk.length;
    if (size > LARGEST_BODY) throw new HttpError(413, `more than ${LARGEST_BODY} bytes`);
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks).toString('utf8');
  if (type === 'application/x-www-form-urlencoded') {
    return { form: true, value: Object.fromEntries(new URLSearchParams(body)) };
  }
  if (type === 'application/json') {
    try {
      return { form: false, value: JSON.parse(body) };
    } catch {
      throw new HttpError(400, 'the body is not JSON');
    }
  }
  throw new HttpError(415, 'send application/json or a form');
}

function fail(response, error, log) {
  const known = error instanceof HttpError ? error.status : error instanceof InvalidEntry ? 400 : undefined;
  const unavailable = error.name === 'Unavailable';
  const status = known ?? (unavailable ? 503 : 500);
  if (known === undefined) log(`${error.name}: ${error.message}`);
  if (response.headersSent) return void response.destroy();
  if (status === 413) response.setHeader('connection', 'close');
  const message = known ? error.message : unavailable ? 'the journal cannot be reached right now' : 'something went wrong';
  json(response, status, { error: message });
}

function send(response, status, type, body) {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  });
  response.end(body);
}

function json(response, status, value) {
  send(response, status, 'application/json', `${JSON.stringify(value)}\n`);
}

function text(response, status, body) {
  send(response, status, 'text/plain; charset=utf-8', body);
}

function html(response, status, body) {
  response.setHeader('content-security-policy', POLICY);
  send(response, status, 'text/html; charset=utf-8', body);
}

function redirect(response, to) {
  response.setHeader('location', to);
  send(response, 303, 'text/plain; charset=utf-8', '');
}

/** Reads the configuration from the environment, listens, and ends well on SIGTERM. */
export function main(env = process.env) {
  const log = (message) => console.log(JSON.stringify({ at: new Date().toISOString(), message }));
  const redis = new Redis({ host: env.REDIS_HOST ?? '127.0.0.1', port: Number(env.REDIS_PORT ?? 6379), log }).start();
  const server = createServer({ journal: new Journal(redis), log });
  server.on('error', (error) => {
    log(`cannot listen: ${error.message}`);
    process.exit(1);
  });
  server.listen(Number(env.PORT ?? 8080), env.HOST ?? '0.0.0.0', () => {
    log(`journal ${version} listens on port ${server.address().port}`);
  });
  const stop = async (signal) => {
    log(`${signal}: draining`);
    await server.drain();
    await redis.close();
    log('ended');
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, stop);
  return server;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) main();
