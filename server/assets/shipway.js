// Keeps a page true while it is looked at: parts are fetched anew when a record changes, logs are followed.
"use strict";

const live = document.body.dataset.live;
if (live !== undefined) {
  let waiting = false;
  const refresh = async () => {
    if (waiting) return;
    waiting = true;
    await new Promise((done) => setTimeout(done, 150));
    waiting = false;
    const answer = await fetch(location.href, { headers: { "x-part": "1" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of page.querySelectorAll("[data-part]")) {
      const mine = document.getElementById(part.id);
      if (mine && mine.innerHTML !== part.innerHTML) mine.innerHTML = part.innerHTML;
    }
    follow();
  };
  const events = new EventSource("/api/v1/events?prefix=" + encodeURIComponent(live));
  for (const kind of ["project", "commit", "run", "image", "evidence", "release", "rollout"]) {
    events.addEventListener(kind, refresh);
  }
  addEventListener("pagehide", () => events.close());
}

// Logs: <pre class="log" data-log="URL">, filled once it is looked at.
const ANSI = /\u001b\[([0-9;]*)m/g;
const COLOURS = { 31: "red", 32: "green", 33: "yellow", 34: "blue" };

const show = (pre, line) => {
  const row = document.createElement("div");
  row.className = line.stream;
  let colour = "", at = 0;
  const put = (text) => {
    if (!text) return;
    const span = document.createElement("span");
    if (colour) span.className = "ansi-" + colour;
    span.textContent = text;
    row.append(span);
  };
  for (const match of line.text.matchAll(ANSI)) {
    put(line.text.slice(at, match.index));
    at = match.index + match[0].length;
    colour = COLOURS[match[1].split(";").pop()] || "";
  }
  put(line.text.slice(at) || (at ? "" : "\u00a0"));
  const bottom = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
  pre.append(row);
  if (bottom) pre.scrollTop = pre.scrollHeight;
};

const read = async (pre) => {
  pre.dataset.read = "1";
  const answer = await fetch(pre.dataset.log + "?follow=true");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) show(pre, JSON.parse(line));
  }
};

function follow() {
  for (const details of document.querySelectorAll("details[data-step]")) {
    const pre = details.querySelector("pre.log");
    const begin = () => { if (details.open && !pre.dataset.read) read(pre); };
    if (!details.dataset.bound) {
      details.dataset.bound = "1";
      details.addEventListener("toggle", begin);
    }
    begin();
  }
}
follow();
addEventListener("hashchange", () => {
  const step = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (step && step.tagName === "DETAILS") step.open = true;
});
