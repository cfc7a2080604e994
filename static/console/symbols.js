// The table of symbols: sorted, filtered, and only what is on screen is in the document.

import { serverNow } from "./clock.js";
import { $, clone, flash, setData, setText, setVar, showNode } from "./dom.js";
import { age, compare, parts, plain, seconds, sign, signed, whole } from "./format.js";
import { isQuoted, leaseLeftMs, nodes, onChange, onTick, page, symbols } from "./store.js";

const PAINT_MS = 60; // between two paintings, however fast the news comes: the newest state of each row is shown
const BEYOND = 6; // rows kept ready above and below what is seen
const OLD_QUOTE_MS = 5000;

const scroll = document.getElementById("symbols");
const body = document.getElementById("symbols-body");
const above = spacer();
const below = spacer();
body.append(above, below);

const shown = new Map(); // symbol -> {row, cells, data}: what is in the document
let order = []; // names, as sorted and filtered
let rowHeight = 32;
let painted = 0;
let pending = false;

function spacer() {
  const row = document.createElement("tr");
  row.className = "spacer";
  row.setAttribute("aria-hidden", "true");
  return row;
}

// --- Which rows, in which order ---------------------------------------------------------------------------------

const number = (text) => (text === null || text === undefined ? -Infinity : Number(text));
const time = (text) => (text === null || text === undefined ? -Infinity : Date.parse(text));
const collator = new Intl.Collator("en", { numeric: true });
// Only the order is found with floating point; what is shown is the text.
const KEYS = {
  holder: (row) => row.node ?? "",
  epoch: (row) => row.epoch,
  lease: (row) => leaseLeftMs(row, serverNow()),
  bid: (row) => number(row.bid),
  ask: (row) => number(row.ask),
  spread: (row) => number(row.spread_ticks),
  price: (row) => number(row.price),
  position: (row) => number(row.position),
  limit: (row) => Math.abs(row.limit_percent),
  realised: (row) => number(row.realised),
  unrealised: (row) => number(row.unrealised),
  age: (row) => -time(row.published_at),
  fill: (row) => time(row.filled_at),
  switch: (row) => Number(row.enabled),
};
const STATES = {
  quoted: isQuoted,
  unquoted: (row, now) => row.enabled && !isQuoted(row, now),
  off: (row) => !row.enabled,
  unheld: (row, now) => leaseLeftMs(row, now) <= 0,
  limit: (row) => Math.abs(row.limit_percent) >= 80,
};

const filter = document.getElementById("filter");
const view = { sort: "symbol", down: false, text: "", node: "", state: "" };

function choose() {
  const now = serverNow();
  const wanted = view.text.trim().toUpperCase();
  const matches = STATES[view.state];
  const found = [];
  for (const row of symbols.values()) {
    if (wanted && !row.symbol.includes(wanted)) continue;
    if (view.node && (row.node ?? "none") !== view.node) continue;
    if (matches && !matches(row, now)) continue;
    found.push(row);
  }
  const key = KEYS[view.sort];
  const turn = view.down ? -1 : 1;
  found.sort((a, b) => {
    if (key) {
      const [x, y] = [key(a), key(b)];
      if (typeof x === "string" ? x !== y : x < y || x > y) return turn * (typeof x === "string" ? collator.compare(x, y) : x - y);
    }
    return (key ? 1 : turn) * collator.compare(a.symbol, b.symbol);
  });
  order = found.map((row) => row.symbol);
}

// --- What is on screen ------------------------------------------------------------------------------------------

function range() {
  const box = scroll.getBoundingClientRect();
  const top = Math.max(0, box.top);
  const bottom = Math.min(window.innerHeight, box.bottom);
  const start = body.getBoundingClientRect().top;
  const first = Math.floor((top - start) / rowHeight) - BEYOND;
  const last = Math.ceil((bottom - start) / rowHeight) + BEYOND;
  return [Math.max(0, Math.min(first, order.length)), Math.max(0, Math.min(last, order.length))];
}

function render() {
  pending = false;
  painted = performance.now();
  choose();
  const [first, last] = range();
  const names = order.slice(first, last);
  const keep = new Set(names);
  for (const [name, entry] of shown) {
    if (keep.has(name)) continue;
    entry.row.remove();
    shown.delete(name);
  }
  let at = above;
  names.forEach((name, index) => {
    let entry = shown.get(name);
    if (!entry) {
      entry = create(name);
      shown.set(name, entry);
    }
    if (at.nextElementSibling !== entry.row) at.after(entry.row);
    at = entry.row;
    const place = String(first + index + 2);
    if (entry.row.getAttribute("aria-rowindex") !== place) entry.row.setAttribute("aria-rowindex", place);
    const data = symbols.get(name);
    if (entry.data !== data) {
      paint(entry, data);
      entry.data = data;
    }
  });
  setVar(above, "height", `${first * rowHeight}px`);
  setVar(below, "height", `${(order.length - last) * rowHeight}px`);
  tickRows();
  const real = names.length ? shown.get(names[0]).row.getBoundingClientRect().height : rowHeight;
  if (real > 0 && Math.abs(real - rowHeight) > 0.5) {
    rowHeight = real; // the phone's cards are higher than the desk's rows
    later();
  }
  describe();
}

function describe() {
  $("table", scroll).setAttribute("aria-rowcount", String(order.length + 1));
  const off = [...symbols.values()].filter((row) => !row.enabled).length;
  const some = order.length < symbols.size ? `${whole(order.length)} of ${whole(symbols.size)}` : whole(symbols.size);
  setText($("#symbols-count"), off ? `${some}, ${whole(off)} off` : some);
  document.getElementById("symbols-empty").hidden = symbols.size > 0 || !page.heard;
  document.getElementById("symbols-none").hidden = order.length > 0 || symbols.size === 0;
}

function later() {
  if (pending) return;
  pending = true;
  setTimeout(() => requestAnimationFrame(render), Math.max(0, painted + PAINT_MS - performance.now()));
}

scroll.addEventListener("scroll", later, { passive: true });
window.addEventListener("scroll", later, { passive: true });
window.addEventListener("resize", later);

onChange(({ symbols: changed, symbolsGone, nodes: nodesChanged }) => {
  if (changed.length || symbolsGone.length) {
    const places = Math.max(0, ...[...symbols.values()].map((row) => row.price_decimals));
    setVar(body, "--places", String(places));
  }
  if (nodesChanged.length) offerNodes();
  if (!page.drawn) {
    page.drawn = true;
    render(); // the first painting waits for nothing
  } else {
    later();
  }
});

onTick(() => {
  if (view.state || view.sort === "lease") later();
  else tickRows();
});

// --- Sorting and filtering --------------------------------------------------------------------------------------

function offerNodes() {
  const select = filter.elements.node;
  const names = [...nodes.keys()].sort(collator.compare);
  if ([...select.options].slice(2).map((option) => option.value).join() === names.join()) return;
  while (select.options.length > 2) select.remove(2);
  for (const name of names) select.add(new Option(name, name));
  select.value = view.node;
  if (select.value !== view.node) select.add(new Option(view.node, view.node, true, true));
}

function remember() {
  const query = new URLSearchParams();
  if (view.text) query.set("text", view.text);
  if (view.node) query.set("node", view.node);
  if (view.state) query.set("state", view.state);
  if (view.sort !== "symbol" || view.down) query.set("sort", (view.down ? "-" : "") + view.sort);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

function showSort() {
  for (const button of scroll.querySelectorAll("thead button")) {
    const is = button.dataset.sort === view.sort;
    const cell = button.closest("th");
    if (is) cell.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  const select = filter.elements.sort;
  select.value = (view.down ? "-" : "") + view.sort;
  if (select.selectedIndex < 0) select.value = ""; // only a header offers it
}

/** As the operator has asked: at once, so that the headers never say what the rows don't show. */
function show() {
  showSort();
  remember();
  render();
}

const FALLING = new Set(["position", "limit", "realised", "unrealised", "age", "fill", "epoch"]); // largest first

scroll.addEventListener("click", (event) => {
  const button = event.target.closest("thead button");
  if (!button) return;
  const name = button.dataset.sort;
  Object.assign(view, { sort: name, down: name === view.sort ? !view.down : FALLING.has(name) });
  show();
});
filter.addEventListener("input", () => {
  const { text, node, state, sort } = filter.elements;
  Object.assign(view, { text: text.value, node: node.value, state: state.value });
  const down = sort.value.startsWith("-");
  if (sort.value) Object.assign(view, { sort: sort.value.slice(down ? 1 : 0), down }); // not when only a header offers it
  show();
});
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("reset", () => {
  Object.assign(view, { text: "", node: "", state: "" });
  setTimeout(show); // when the fields are empty
});

{
  const query = new URLSearchParams(location.search);
  const sort = query.get("sort") ?? "";
  view.down = sort.startsWith("-");
  const name = sort.slice(view.down ? 1 : 0);
  view.sort = Object.hasOwn(KEYS, name) ? name : "symbol";
  view.text = (query.get("text") ?? "").slice(0, 16);
  view.node = (query.get("node") ?? "").slice(0, 64);
  view.state = Object.hasOwn(STATES, query.get("state")) ? query.get("state") : "";
  filter.elements.text.value = view.text;
  filter.elements.state.value = view.state;
  if (view.node === "none") filter.elements.node.value = "none";
  showSort();
}

// --- One row ----------------------------------------------------------------------------------------------------

function create(name) {
  const row = clone("symbol-row");
  row.dataset.symbol = name;
  const cells = {};
  for (const cell of row.children) cells[/c-(\w+)/.exec(cell.className)[1]] = cell;
  const link = $("a", cells.symbol);
  link.textContent = name;
  link.href = `/symbols/${encodeURIComponent(name)}/`;
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
  setText(cells.spread, data.spread_ticks === null ? "–" : whole(data.spread_ticks));
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
  showSwitch(cells.switch, data);
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

export function showSwitch(cell, data) {
  const control = cell.firstElementChild;
  const label = data.enabled ? "On" : "Off";
  if (control.getAttribute("role") !== "switch") return setText(control, label);
  if (control.dataset.wanted === String(data.enabled)) delete control.dataset.wanted; // it is so now
  control.setAttribute("aria-checked", String(data.enabled));
  control.setAttribute("aria-label", `Quoting ${data.symbol}`);
  return setText($("span", control), control.dataset.wanted ? "…" : label);
}

/** What follows from the time alone. */
function tickRows() {
  const now = serverNow();
  for (const { row, cells, data } of shown.values()) {
    left(cells.lease, leaseLeftMs(data, now), nodes.get(data.node)?.ttl_ms, data.node === null ? "none" : "expired");
    const quoted = data.published_at !== null;
    const lapsed = data.enabled && quoted && Date.parse(data.valid_until) <= now;
    setData(row, "quote", quoted ? (lapsed ? "lapsed" : "live") : "none");
    const old = quoted ? now - Date.parse(data.published_at) : 0;
    setText(cells.age, quoted ? seconds(old) : "–");
    setData(cells.age, "level", old > OLD_QUOTE_MS ? "high" : "");
    setText(cells.fill, data.filled_at === null ? "–" : age(now - Date.parse(data.filled_at)));
  }
}

/** A countdown: a bar and the seconds, or in words what it has come to. */
export function left(cell, leftMs, ttlMs, otherwise) {
  const alive = leftMs > 0;
  setData(cell, "state", alive ? (leftMs < 1000 && ttlMs > 2000 ? "short" : "ok") : otherwise);
  setText($(".secs", cell), alive ? seconds(leftMs) : otherwise);
  setVar($(".bar b", cell), "--share", alive ? Math.min(1, leftMs / ttlMs).toFixed(2) : "0");
}
