// The symbol at a glance: holder, lease, quote, position, switch. From the stream's newest row.

import { serverNow, tell } from "./clock.js";
import { $, flash, setData, setText, setVar, showNode } from "./dom.js";
import { age, compare, parts, plain, seconds, sign, signed, whole } from "./format.js";
import { isQuoted, leaseLeftMs, nodes, onChange, onTick, symbols } from "./store.js";
import { first, name } from "./symbol_source.js";

const SHORT_MS = 1000;
const cell = (id) => $("dd", document.getElementById(`face-${id}`));
const cells = Object.fromEntries(
  ["epoch", "lease", "bid", "ask", "spread", "price", "age", "position", "realised", "unrealised"].map((id) => [id, cell(id)]),
);
const face = document.getElementById("symbol-face");
const holder = document.getElementById("symbol-holder");
let shown = null;

function paint(row) {
  if (shown?.node !== row.node || !shown) {
    showNode(holder, row.node);
    if (shown && row.node) flash(holder);
  }
  setText(cells.epoch, whole(row.epoch));
  for (const side of ["bid", "ask"]) {
    const now = row[side];
    setText($("strong", cells[side]), now === null ? "–" : plain(now));
    setText($(".size", cells[side]), now === null ? "" : `× ${plain(row[`${side}_size`])}`);
    if (shown?.[side] && now && shown[side] !== now) flash(cells[side], compare(now, shown[side]));
  }
  const spread = row.spread_ticks;
  setText(cells.spread, spread === null ? "–" : `${whole(spread)} tick${spread === 1 ? "" : "s"}`);
  reference(row);
  setText($(".number", cells.position), signed(row.position));
  setText($(".size", cells.position), `${String(row.limit_percent).replace("-", "−")}% of limit`);
  setData(cells.position, "level", Math.abs(row.limit_percent) >= 80 ? "high" : "");
  if (shown && shown.position !== row.position) flash(cells.position);
  for (const kind of ["realised", "unrealised"]) {
    setText(cells[kind], signed(row[kind]));
    setData(cells[kind], "sign", String(sign(row[kind])));
  }
  setData(face, "enabled", String(row.enabled));
  quoting(row);
  shown = row;
}

function reference(row) {
  setText($(".number", cells.price), parts(row.price).join(""));
  if (!shown || shown.price === row.price) return;
  const up = compare(row.price, shown.price) > 0;
  setText($(".arrow", cells.price), up ? "▲" : "▼");
  setData($(".arrow", cells.price), "sign", up ? "1" : "-1");
  flash(cells.price, up ? 1 : -1);
}

function quoting(row) {
  const control = document.getElementById("symbol-switch");
  const label = row.enabled ? "On" : "Off";
  if (!control) return setText(document.getElementById("symbol-state"), label);
  if (control.dataset.wanted === String(row.enabled)) delete control.dataset.wanted; // it is so now
  control.setAttribute("aria-checked", String(row.enabled));
  control.setAttribute("aria-label", `Quoting ${name}`);
  return setText($("span", control), control.dataset.wanted ? "…" : label);
}

onChange(({ symbols: changed, symbolsGone }) => {
  if (symbolsGone.includes(name)) location.reload(); // it is listed no more: the page says so
  const row = changed.find((candidate) => candidate.symbol === name);
  if (row) paint(row);
});

onTick(() => {
  const row = symbols.get(name);
  if (!row) return;
  const now = serverNow();
  const leftMs = leaseLeftMs(row, now);
  const ttlMs = nodes.get(row.node)?.ttl_ms ?? 0;
  const alive = leftMs > 0;
  setData(cells.lease, "state", alive ? (leftMs < SHORT_MS && ttlMs > 2 * SHORT_MS ? "short" : "ok") : row.node === null ? "none" : "expired");
  setText($(".secs", cells.lease), alive ? seconds(leftMs) : row.node === null ? "none" : "expired");
  setVar($(".bar b", cells.lease), "--share", alive ? Math.min(1, leftMs / ttlMs).toFixed(2) : "0");
  const quoted = isQuoted(row, now);
  setData(face, "quote", row.published_at === null ? "none" : quoted ? "live" : "lapsed");
  const old = row.published_at === null ? null : now - Date.parse(row.published_at);
  setText(cells.age, old === null ? "no quote" : `${old < 10000 ? seconds(old) : age(old)}${quoted ? "" : ", lapsed"}`);
});

// What the page came with, until the stream speaks: only of this symbol, so the strip above waits for all of them.
tell(first.now.at, 0);
symbols.set(name, first.row);
paint(first.row);
