// What every page has: the stream, how fresh it is, the market at a glance, and the switch for all of it.

import "./actions.js";
import { serverNow, tell } from "./clock.js";
import { $, setData, setText } from "./dom.js";
import { age, sign, signed, whole } from "./format.js";
import { isAlive, isQuoted, nodes, onChange, onTick, page, summary, symbols, take, tick } from "./store.js";
import { Stream } from "./stream.js";

const TICK_MS = 100;
const OLD_QUOTE_MS = 5000; // a quote that is older is worth a look

function stat(name, text, tone = "") {
  const box = document.getElementById(`stat-${name}`);
  if (!box) return;
  setText($("dd", box), text);
  setData(box, "tone", tone);
}

function oldestQuoteMs(now) {
  let oldest = 0;
  for (const row of symbols.values()) {
    if (isQuoted(row, now)) oldest = Math.max(oldest, now - Date.parse(row.published_at));
  }
  return oldest;
}

function paint() {
  if (!page.heard) return;
  const now = serverNow();
  let enabled = 0;
  let quoted = 0;
  for (const row of symbols.values()) {
    enabled += row.enabled;
    quoted += isQuoted(row, now);
  }
  const present = [...nodes.values()].filter((row) => isAlive(row, now)).length;
  stat("quoted", `${whole(quoted)} / ${whole(enabled)}`, quoted === 0 ? "bad" : quoted < symbols.size ? "warn" : "");
  stat("nodes", `${present} / ${nodes.size}`, present === 0 ? "bad" : present < nodes.size ? "warn" : "");
  const oldest = oldestQuoteMs(now);
  stat("oldest", quoted ? `${(oldest / 1000).toFixed(1)} s` : "–", oldest > OLD_QUOTE_MS ? "warn" : "");
  stat("orders", summary.orders_per_s === undefined ? "–" : summary.orders_per_s.toFixed(1));
  stat("rate", summary.fills_per_s === undefined ? "–" : summary.fills_per_s.toFixed(1));
  stat("fills", whole(summary.fills ?? 0));
  for (const name of ["realised", "unrealised"]) {
    stat(name, signed(summary[name] ?? "0.00"), { 1: "up", "-1": "down" }[sign(summary[name])] ?? "");
  }
  const start = document.getElementById("start-all");
  if (start) start.disabled = enabled === symbols.size;
  const stop = document.getElementById("stop-all");
  if (stop) stop.disabled = enabled === 0;
  setData(document.body, "quoting", enabled === 0 && symbols.size ? "off" : "on");
}

const WORDS = { live: "Live", stale: "Stale", reconnecting: "Reconnecting" };
const title = document.title;

function onStatus({ state, ageMs, why }) {
  setData($("#status"), "state", state);
  setText($("#status-text"), state === "live" ? WORDS.live : `${WORDS[state]}: ${why}`);
  setText($("#status-age"), state === "live" ? "" : ` · ${age(ageMs)} old`);
  page.fresh = state === "live";
  setData(document.body, "fresh", String(page.fresh));
  document.title = state === "live" ? title : `${WORDS[state]} · ${title}`;
}

onTick(paint);
onChange(paint);

/** Begin: with the state that the page carries, if it does, and then with the stream. Called once by each page's script. */
export function begin() {
  const first = document.getElementById("state");
  if (first) {
    const state = JSON.parse(first.textContent);
    tell(state.summary.now, 0);
    take({ type: "snapshot", ...state });
    tick();
  }
  new Stream({ onMessage: take, onStatus });
  setInterval(() => document.hidden || !page.fresh || tick(), TICK_MS);
}
