// The table of symbols: a row each, updated cell by cell.

import { serverNow } from "./clock.js";
import { $, clone, flash, setData, setText, setVar, showNode } from "./dom.js";
import { leaseLeftMs, nodes, onChange, onTick, symbols } from "./store.js";
import { compare, parts, plain, seconds, sign, signed, whole } from "./format.js";

const body = document.getElementById("symbols-body");
const shown = new Map(); // symbol -> {row, data, cells}

onChange(({ symbols: changed, symbolsGone }) => {
  for (const name of symbolsGone) {
    shown.get(name)?.row.remove();
    shown.delete(name);
  }
  let added = false;
  for (const data of changed) {
    let entry = shown.get(data.symbol);
    if (!entry) {
      entry = create(data.symbol);
      shown.set(data.symbol, entry);
      added = true;
    }
    paint(entry, data);
    entry.data = data;
  }
  if (added) arrange();
  document.getElementById("symbols-empty").hidden = shown.size > 0;
});

function arrange() {
  const names = [...shown.keys()].sort();
  body.append(...names.map((name) => shown.get(name).row));
  const places = Math.max(0, ...[...symbols.values()].map((data) => data.price_decimals));
  setVar(body, "--places", String(places));
}

function create(name) {
  const row = clone("symbol-row");
  row.dataset.symbol = name;
  const cells = {};
  for (const cell of row.children) cells[/c-(\w+)/.exec(cell.className)[1]] = cell;
  cells.symbol.textContent = name;
  return { row, cells, data: null };
}

function paint({ row, cells, data: before }, data) {
  if (before?.node !== data.node) {
    showNode($(".node", cells.holder), data.node);
    if (before && data.node) flash(cells.holder);
  }
  setText(cells.epoch, whole(data.epoch));
  price(cells.bid, before?.bid, data.bid);
  price(cells.ask, before?.ask, data.ask);
  setText(cells.bidsize, plain(data.bid_size));
  setText(cells.asksize, plain(data.ask_size));
  reference(cells.price, before?.price, data.price);
  setText(cells.position, signed(data.position));
  setData(cells.position, "sign", String(sign(data.position)));
  if (before && before.position !== data.position) flash(cells.position);
  const share = Math.max(-100, Math.min(100, data.limit_percent));
  setVar($(".gauge b", cells.limit), "--share", String(share / 100));
  setData($(".gauge", cells.limit), "level", Math.abs(share) >= 80 ? "high" : "");
  setText($(".percent", cells.limit), `${String(data.limit_percent).replace("-", "−")}%`);
  cells.position.title = `Limit ${plain(data.limit)}, average cost ${plain(data.average_cost)}`;
  money(cells.realised, data.realised);
  money(cells.unrealised, data.unrealised);
  setData(row, "enabled", String(data.enabled));
  quoting(cells.switch, data);
}

function price(cell, before, now) {
  const [int, frac] = now === null ? ["–", ""] : parts(now);
  setText($(".int", cell), int);
  setText($(".frac", cell), frac);
  if (before && now && before !== now) flash(cell, compare(now, before));
}

function reference(cell, before, now) {
  price(cell, before, now);
  if (!before || before === now) return;
  const up = compare(now, before) > 0;
  setText($(".arrow", cell), up ? "▲" : "▼");
  setData($(".arrow", cell), "sign", up ? "1" : "-1");
}

function money(cell, text) {
  setText(cell, signed(text));
  setData(cell, "sign", String(sign(text)));
}

function quoting(cell, data) {
  const control = cell.firstElementChild;
  const label = data.enabled ? "On" : "Off";
  if (control.getAttribute("role") !== "switch") return setText(control, label);
  if (control.dataset.wanted === String(data.enabled)) delete control.dataset.wanted; // it is so now
  control.setAttribute("aria-checked", String(data.enabled));
  control.setAttribute("aria-label", `Quoting ${data.symbol}`);
  return setText($("span", control), control.dataset.wanted ? "…" : label);
}

onTick(() => {
  const now = serverNow();
  for (const { row, cells, data } of shown.values()) {
    left(cells.lease, leaseLeftMs(data, now), nodes.get(data.node)?.ttl_ms, data.node === null ? "none" : "expired");
    const lapsed = data.enabled && data.published_at !== null && Date.parse(data.valid_until) <= now;
    setData(row, "quote", data.published_at === null ? "none" : lapsed ? "lapsed" : "live");
  }
});

/** A countdown: a bar and the seconds, or in words what it has come to. */
export function left(cell, leftMs, ttlMs, otherwise) {
  const alive = leftMs > 0;
  setData(cell, "state", alive ? (leftMs < 1000 && ttlMs > 2000 ? "short" : "ok") : otherwise);
  setText($(".secs", cell), alive ? seconds(leftMs) : otherwise);
  setVar($(".bar b", cell), "--share", alive ? Math.min(1, leftMs / ttlMs).toFixed(2) : "0");
}
