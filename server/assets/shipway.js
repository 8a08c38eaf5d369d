// Keeps a page true while it is looked at: parts are fetched anew when a record changes, logs are followed, ages grow.
"use strict";

// Parts of the page: <… id data-part>. What is new replaces what is there; what has the focus keeps it.
const parts = (page) => page.querySelectorAll("[data-part]");
const replace = (mine, fresh) => {
  for (const { name, value } of [...fresh.attributes]) mine.setAttribute(name, value);
  if (mine.innerHTML === fresh.innerHTML) return;
  const focused = mine.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  mine.innerHTML = fresh.innerHTML;
  if (focused) mine.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
};

let refreshing = false, again = false;
const refresh = async () => {
  if (refreshing) { again = true; return; }
  refreshing = true;
  await new Promise((done) => setTimeout(done, 150));
  again = false;
  try {
    const answer = await fetch(location.pathname);
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = page.title;
      // A run's steps are known only once its pipeline was read.
      for (const step of page.querySelectorAll("details[data-step]")) {
        if (!document.getElementById(step.id)) document.getElementById("logs").append(step);
      }
      for (const part of parts(page)) {
        const mine = document.getElementById(part.id);
        if (mine) replace(mine, part);
      }
      steps();
      tick();
      if (waiting.size) flush();
    }
  } catch {
    // The server is away, or the way to it changed.
    again = true;
    await new Promise((done) => setTimeout(done, 1000));
  }
  refreshing = false;
  if (again) refresh();
};

const live = document.body.dataset.live;
if (live !== undefined) {
  const lost = document.getElementById("lost");
  const events = new EventSource("/api/v1/events?prefix=" + encodeURIComponent(live));
  for (const kind of ["project", "commit", "run", "image", "evidence", "release", "rollout", "observation"]) {
    events.addEventListener(kind, refresh);
  }
  // What happened after the page was made and before its events were listened to told nobody.
  events.onopen = () => { lost.hidden = true; refresh(); };
  events.onerror = () => { lost.hidden = false; };
  addEventListener("pagehide", () => events.close());
  // Pods are no records of Shipway's own, so they are looked at again.
  const every = Number(document.body.dataset.every);
  if (every) setInterval(() => { if (!document.hidden) refresh(); }, every * 1000);
}

// Ages and durations, in the same words as the server's.
const ago = (s) => s < 60 ? `${s}s` : s < 3600 ? `${Math.floor(s / 60)}m` : s < 86400 ? `${Math.floor(s / 3600)}h` : `${Math.floor(s / 86400)}d`;
const two = (n) => String(Math.floor(n)).padStart(2, "0");
const took = (s) => s < 60 ? `${s.toFixed(0)}s` : s < 3600 ? `${Math.floor(s / 60)}m ${two(s % 60)}s` : `${Math.floor(s / 3600)}h ${two(s % 3600 / 60)}m`;
function tick() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const seconds = Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000);
    const text = "since" in time.dataset ? took(seconds) : `${ago(Math.floor(seconds))} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}
setInterval(tick, 1000);

// Logs. Terminal codes become classes; other codes are left out; of a line that was written over, the last state is shown.
const MOST_LINES = 20000;
const CODES = /\u001b(?:\[([0-9;:?]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
const spans = (text) => {
  const made = [];
  let style = { bold: false, dim: false, colour: "" }, at = 0;
  const put = (piece) => {
    if (!piece) return;
    const classes = [style.bold && "bold", style.dim && "dim", style.colour].filter(Boolean).join(" ");
    if (!classes) { made.push(piece); return; }
    const span = document.createElement("span");
    span.className = classes;
    span.textContent = piece;
    made.push(span);
  };
  for (const match of text.matchAll(CODES)) {
    put(text.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] !== "m") continue;
    for (const code of (match[1] || "0").split(";").map(Number)) {
      if (code === 0) style = { bold: false, dim: false, colour: "" };
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 22) style.bold = style.dim = false;
      else if (code === 39) style.colour = "";
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) style.colour = "c" + code % 10;
      else if (code === 38 || code === 48) break;
    }
  }
  put(text.slice(at));
  return made;
};

const show = (pre, lines) => {
  const rows = document.createDocumentFragment();
  for (const line of lines) {
    const at = Date.parse(line.at);
    pre.dataset.from ||= at;
    const row = document.createElement("div");
    row.className = line.stream;
    row.dataset.at = ((at - pre.dataset.from) / 1000).toFixed(2);
    const text = line.text.replace(/\r+$/, "");
    row.append(...spans(text.slice(text.lastIndexOf("\r") + 1)));
    if (!row.hasChildNodes()) row.append("\u200b");
    rows.append(row);
  }
  const bottom = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
  pre.append(rows);
  while (pre.childElementCount > MOST_LINES) pre.firstElementChild.remove();
  if (bottom) pre.scrollTop = pre.scrollHeight;
};

// Calls `take` with the objects of an answer in JSON lines, as they come.
const lines = async (url, take) => {
  const answer = await fetch(url);
  if (!answer.ok) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    if (whole.length) take(whole.map((line) => JSON.parse(line)));
  }
};

const pre = (step) => document.getElementById("log-" + step)?.querySelector("pre.log");

// The logs of a run that is under way come in one stream: a browser opens only a few connections to one host.
const waiting = new Map();
function flush() {
  for (const [step, found] of waiting) {
    const mine = pre(step);
    if (!mine) continue;
    mine.dataset.read = "1";
    show(mine, found);
    waiting.delete(step);
  }
  // The place of a step that is new comes with the next look at the page.
  if (waiting.size) refresh();
}
const follow = async () => {
  const url = document.body.dataset.logs;
  for (;;) {
    try {
      await lines(url + "?follow=true", (all) => {
        for (const line of all) {
          if (!waiting.has(line.step)) waiting.set(line.step, []);
          waiting.get(line.step).push(line);
        }
        flush();
      });
      const run = await (await fetch(url.slice(0, -"/logs".length))).json();
      if (!["queued", "running"].includes(run.state.type)) return;
    } catch { /* the connection was lost */ }
    await new Promise((done) => setTimeout(done, 1000));
    // What is there is read again from its beginning.
    waiting.clear();
    for (const mine of document.querySelectorAll("pre.log[data-read]")) mine.replaceChildren();
  }
};

// The log of a step that has ended is read when it is looked at.
const read = (mine) => {
  mine.dataset.read = "1";
  lines(mine.dataset.log, (all) => show(mine, all)).catch(() => { delete mine.dataset.read; });
};

function steps() {
  for (const details of document.querySelectorAll("details[data-step]")) {
    const mine = details.querySelector("pre.log");
    const state = details.querySelector("[data-state]").dataset;
    const following = "logs" in document.body.dataset;
    const look = () => {
      const ended = "ended" in details.querySelector("[data-state]").dataset;
      if (details.open && !mine.dataset.read && (ended && !following)) read(mine);
    };
    if (!details.dataset.bound) {
      details.dataset.bound = "1";
      details.addEventListener("toggle", look);
    }
    // What begins or fails while the page is looked at is opened once.
    if (details.dataset.was && details.dataset.was !== state.state && ["running", "failed"].includes(state.state)) details.open = true;
    details.dataset.was = state.state;
    look();
  }
}
steps();
if ("logs" in document.body.dataset) follow();

const target = () => {
  const step = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (step?.tagName === "DETAILS") { step.open = true; step.scrollIntoView({ block: "nearest" }); }
};
addEventListener("hashchange", target);
target();

// A click on what people copy copies it; a form that changes much asks first.
addEventListener("click", async (event) => {
  const copy = event.target.closest?.(".copy");
  if (!copy || !navigator.clipboard || String(getSelection())) return;
  await navigator.clipboard.writeText(copy.title.includes(copy.textContent) ? copy.title : copy.textContent);
  copy.classList.add("copied");
  setTimeout(() => copy.classList.remove("copied"), 1200);
});
addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
tick();
