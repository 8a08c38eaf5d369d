// A Redis in this process that knows the commands of the journal, and can be made to misbehave.

import { once } from 'node:events';
import net from 'node:net';

export class FakeRedis {
  lists = new Map();
  counters = new Map();
  commands = [];
  /** Send replies byte by byte. */
  slowly = false;
  /** Take commands and never answer. */
  silent = false;
  #sockets = new Set();
  #server = net.createServer((socket) => this.#serve(socket));

  async listen(port = 0) {
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = this.#server.address().port;
    return this;
  }

  /** Closes every connection, as a Redis that restarts does. */
  drop() {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close() {
    this.drop();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }

  #serve(socket) {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    let held = '';
    socket.on('data', async (chunk) => {
      held += chunk.toString('latin1');
      for (let found; (found = take(held)); ) {
        held = found.rest;
        const args = found.args.map((arg) => Buffer.from(arg, 'latin1').toString('utf8'));
        this.commands.push(args.join(' '));
        if (this.silent) continue;
        const reply = Buffer.from(this.#reply(args));
        if (!this.slowly) socket.write(reply);
        else for (const byte of reply) {
          socket.write(Buffer.of(byte));
          await new Promise(setImmediate);
        }
      }
    });
  }

  #reply([command, key, ...args]) {
    const list = this.lists.get(key) ?? [];
    switch (command) {
      case 'PING':
        return '+PONG\r\n';
      case 'INCR':
        this.counters.set(key, (this.counters.get(key) ?? 0) + 1);
        return `:${this.counters.get(key)}\r\n`;
      case 'LPUSH':
        this.lists.set(key, [...args.reverse(), ...list]);
        return `:${this.lists.get(key).length}\r\n`;
      case 'LTRIM':
        this.lists.set(key, list.slice(Number(args[0]), Number(args[1]) + 1));
        return '+OK\r\n';
      case 'LRANGE': {
        const rows = list.slice(Number(args[0]), Number(args[1]) + 1);
        return `*${rows.length}\r\n${rows.map((row) => `$${Buffer.byteLength(row)}\r\n${row}\r\n`).join('')}`;
      }
      default:
        return `-ERR unknown command '${command}'\r\n`;
    }
  }
}

/** The first command in the text and what follows, or undefined. Lengths are in bytes: the text is latin1. */
function take(text) {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (!head) return undefined;
  let at = head[0].length;
  const args = [];
  for (let i = 0; i < Number(head[1]); i++) {
    const bulk = /^\$(\d+)\r\n/.exec(text.slice(at));
    if (!bulk) return undefined;
    const start = at + bulk[0].length;
    const end = start + Number(bulk[1]);
    if (text.length < end + 2) return undefined;
    args.push(text.slice(start, end));
    at = end + 2;
  }
  return { args, rest: text.slice(at) };
}
