// A small client for Redis: the RESP2 protocol, one connection, commands in order, reconnecting for ever.
// https://redis.io/docs/latest/develop/reference/protocol-spec/

import { once } from 'node:events';
import net from 'node:net';

const CR = 13;
const LF = 10;
const LONGEST_LINE = 64 * 1024;
const LONGEST_REPLY = 8 * 1024 * 1024;
const DEEPEST = 8;

/** An error that Redis sent as a reply. The connection is fine. */
export class ReplyError extends Error {
  name = 'ReplyError';
}

/** Redis did not answer, or answered something that is not RESP. */
export class Unavailable extends Error {
  name = 'Unavailable';
}

/** The bytes of a command. */
export function encode(args) {
  const parts = [`*${args.length}\r\n`];
  for (const arg of args) {
    const text = String(arg);
    parts.push(`$${Buffer.byteLength(text)}\r\n${text}\r\n`);
  }
  return parts.join('');
}

/** Turns bytes that arrive in pieces into replies: strings, numbers, null, arrays and ReplyErrors. */
export class Parser {
  #held = Buffer.alloc(0);

  /** All replies that are whole by now. */
  feed(chunk) {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const replies = [];
    let at = 0;
    for (;;) {
      const found = this.#reply(at, 0);
      if (found === undefined) break;
      replies.push(found.value);
      at = found.end;
    }
    this.#held = this.#held.subarray(at);
    if (this.#held.length > LONGEST_REPLY) throw new Unavailable('the reply is too long');
    return replies;
  }

  /** The reply that starts at `at`, or undefined when its end has not arrived. */
  #reply(at, depth) {
    if (depth > DEEPEST) throw new Unavailable('the reply is nested too deep');
    const line = this.#line(at);
    if (line === undefined) return undefined;
    const { text, end } = line;
    const rest = text.slice(1);
    switch (text[0]) {
      case '+':
        return { value: rest, end };
      case '-':
        return { value: new ReplyError(rest), end };
      case ':':
        return { value: integer(rest), end };
      case '$':
        return this.#bulk(integer(rest), end);
      case '*':
        return this.#array(integer(rest), end, depth);
      default:
        throw new Unavailable(`not a Redis reply: ${JSON.stringify(text.slice(0, 20))}`);
    }
  }

  #line(at) {
    const end = this.#held.indexOf(LF, at);
    if (end === -1) {
      if (this.#held.length - at > LONGEST_LINE) throw new Unavailable('a line of the reply is too long');
      return undefined;
    }
    if (end === at || this.#held[end - 1] !== CR) throw new Unavailable('a line of the reply does not end in CR LF');
    return { text: this.#held.toString('utf8', at, end - 1), end: end + 1 };
  }

  #bulk(length, at) {
    if (length === -1) return { value: null, end: at };
    if (length < 0 || length > LONGEST_REPLY) throw new Unavailable('the reply is too long');
    const end = at + length;
    if (this.#held.length < end + 2) return undefined;
    if (this.#held[end] !== CR || this.#held[end + 1] !== LF) throw new Unavailable('a string has the wrong length');
    return { value: this.#held.toString('utf8', at, end), end: end + 2 };
  }

  #array(length, at, depth) {
    if (length === -1) return { value: null, end: at };
    if (length < 0 || length > 100_000) throw new Unavailable('the reply is too long');
    const value = [];
    for (let i = 0; i < length; i++) {
      const item = this.#reply(at, depth + 1);
      if (item === undefined) return undefined;
      value.push(item.value);
      at = item.end;
    }
    return { value, end: at };
  }
}

function integer(text) {
  if (!/^-?\d{1,15}$/.test(text)) throw new Unavailable(`not a number: ${JSON.stringify(text.slice(0, 20))}`);
  return Number(text);
}

/** One connection to Redis that comes back by itself. */
export class Redis {
  #options;
  #socket = null;
  #ready = false;
  /** Commands that were sent and not answered, in order. */
  #sent = [];
  /** Those who wait for a connection. */
  #waiting = new Set();
  #attempt = 0;
  #retry = null;
  #closed = false;

  constructor(options = {}) {
    this.#options = {
      host: '127.0.0.1',
      port: 6379,
      timeout: 3000,
      firstPause: 20,
      longestPause: 1000,
      mostPending: 1000,
      log: () => {},
      ...options,
    };
  }

  get connected() {
    return this.#ready;
  }

  /** Starts to connect. Does not wait, and never throws: a server that is not there is tried again. */
  start() {
    if (this.#closed || this.#socket) return this;
    const { host, port, timeout } = this.#options;
    const socket = net.connect({ host, port });
    const parser = new Parser();
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setTimeout(timeout, () => this.#ready || this.#drop(socket, new Unavailable('connecting took too long')));
    socket.on('connect', () => {
      this.#ready = true;
      this.#attempt = 0;
      socket.setTimeout(0);
      socket.setKeepAlive(true, 10_000);
      this.#options.log(`connected to Redis at ${host}:${port}`);
      for (const wake of this.#waiting) wake();
      this.#waiting.clear();
    });
    socket.on('data', (chunk) => {
      try {
        for (const reply of parser.feed(chunk)) this.#answer(socket, reply);
      } catch (error) {
        this.#drop(socket, error);
      }
    });
    socket.on('error', (error) => this.#drop(socket, new Unavailable(error.message)));
    socket.on('close', () => this.#drop(socket, new Unavailable('Redis closed the connection')));
    return this;
  }

  /** Sends a command and gives its reply. Waits for a connection as long as for a reply. */
  async command(...args) {
    if (this.#closed) throw new Unavailable('the client is closed');
    const deadline = Date.now() + this.#options.timeout;
    if (!this.#ready) await this.#connection(this.#options.timeout);
    if (this.#sent.length >= this.#options.mostPending) throw new Unavailable('too many commands wait for Redis');
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      // Replies come in order: when one is missing, the connection is of no more use.
      const late = () => this.#drop(socket, new Unavailable('Redis did not answer in time'));
      const timer = setTimeout(late, Math.max(deadline - Date.now(), 1));
      this.#sent.push({ resolve, reject, timer });
      socket.write(encode(args));
    });
  }

  /** Ends the connection. What was sent is still answered. */
  async close() {
    this.#closed = true;
    clearTimeout(this.#retry);
    const socket = this.#socket;
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
    if (!socket || socket.destroyed) return;
    if (!this.#ready) return void socket.destroy();
    const ended = once(socket, 'close');
    socket.end();
    const force = setTimeout(() => socket.destroy(), this.#options.timeout);
    await ended;
    clearTimeout(force);
  }

  #connection(timeout) {
    return new Promise((resolve, reject) => {
      const wake = () => {
        clearTimeout(timer);
        this.#ready ? resolve() : reject(new Unavailable('the client is closed'));
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(wake);
        const { host, port } = this.#options;
        reject(new Unavailable(`there is no connection to Redis at ${host}:${port}`));
      }, timeout);
      this.#waiting.add(wake);
    });
  }

  #answer(socket, reply) {
    const command = this.#sent.shift();
    if (!command) return this.#drop(socket, new Unavailable('Redis answered what nobody asked'));
    clearTimeout(command.timer);
    reply instanceof ReplyError ? command.reject(reply) : command.resolve(reply);
  }

  #drop(socket, error) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    this.#ready = false;
    socket.destroy();
    for (const command of this.#sent.splice(0)) {
      clearTimeout(command.timer);
      command.reject(error);
    }
    if (this.#closed) return;
    const { firstPause, longestPause, log } = this.#options;
    const pause = Math.min(firstPause * 2 ** this.#attempt++, longestPause);
    log(`no connection to Redis (${error.message}), trying again in ${pause} ms`);
    this.#retry = setTimeout(() => this.start(), pause);
  }
}
