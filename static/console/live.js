// The live page: first painted with the state it came with, then kept by the stream.

import "./actions.js";
import { serverNow, tell } from "./clock.js";
import { $, setData, setText } from "./dom.js";
import { addToFeed, clearFeed, note } from "./feed.js";
import { age, sign, signed, whole } from "./format.js";
import { isAlive, nodes, removeNodes, replaceNodes, tickNodes, updateNodes } from "./nodes.js";
import { Stream } from "./stream.js";
import { isQuoted, removeSymbols, replaceSymbols, symbols, tickSymbols, updateSymbols } from "./symbols.js";

const TICK_MS = 100; // countdowns

let summary = {};
let fresh = true; // while it is not, nothing counts down: what is shown stays what was last known

function stat(name, text, tone = "") {
  const box = document.getElementById(`stat-${name}`);
  setText($("dd", box), text);
  setData(box, "tone", tone);
}

function paintSummary() {
  const now = serverNow();
  const all = symbols();
  const enabled = all.filter((data) => data.enabled).length;
  const quoted = all.filter((data) => isQuoted(data, now)).length;
  const present = [...nodes.values()].filter((data) => isAlive(data, now)).length;
  stat("quoted", `${whole(quoted)} / ${whole(enabled)}`, quoted === 0 ? "bad" : quoted < all.length ? "warn" : "");
  stat("nodes", `${present} / ${nodes.size}`, present === 0 ? "bad" : present < nodes.size ? "warn" : "");
  stat("step", summary.step === null || summary.step === undefined ? "–" : whole(summary.step));
  stat("rate", summary.fills_per_s === undefined ? "–" : summary.fills_per_s.toFixed(1));
  stat("fills", whole(summary.fills ?? 0));
  for (const name of ["realised", "unrealised"]) {
    stat(name, signed(summary[name] ?? "0.00"), { 1: "up", "-1": "down" }[sign(summary[name])] ?? "");
  }
  setText($("#symbols-count"), enabled < all.length ? `${all.length}, ${all.length - enabled} off` : String(all.length));
  setText($("#nodes-count"), summary.generation ? `generation ${summary.generation}` : "");
  const start = document.getElementById("start-all");
  if (start) start.disabled = enabled === all.length;
  const stop = document.getElementById("stop-all");
  if (stop) stop.disabled = enabled === 0;
}

function tick() {
  if (!fresh) return;
  tickNodes(symbols().length);
  tickSymbols(nodes);
  paintSummary();
}

function onMessage(message, resumed) {
  if (message.type === "snapshot") {
    replaceNodes(message.nodes);
    replaceSymbols(message.symbols);
    if (!resumed || message.gap) clearFeed();
    if (resumed && message.gap) note("This page was away for long: earlier entries are left out");
  } else {
    removeNodes(message.nodes_gone ?? []);
    updateNodes(message.nodes ?? []);
    removeSymbols(message.symbols_gone ?? []);
    updateSymbols(message.symbols ?? []);
  }
  summary = { ...summary, ...message.summary };
  addToFeed(message.activity ?? [], message.skipped);
  tick();
}

const WORDS = { live: "Live", stale: "Stale", reconnecting: "Reconnecting" };

function onStatus({ state, ageMs, why }) {
  setData($("#status"), "state", state);
  setText($("#status-text"), state === "live" ? WORDS.live : `${WORDS[state]}: ${why}`);
  setText($("#status-age"), state === "live" ? "" : ` · ${age(ageMs)} old`);
  fresh = state === "live";
  setData(document.body, "fresh", String(fresh));
  document.title = state === "live" ? "Live · Market maker" : `${WORDS[state]} · Market maker`;
}

const first = JSON.parse(document.getElementById("state").textContent);
summary = first.summary;
tell(summary.now, 0);
replaceNodes(first.nodes);
replaceSymbols(first.symbols);
tick();
setInterval(() => document.hidden || tick(), TICK_MS);
new Stream({ onMessage, onStatus });
