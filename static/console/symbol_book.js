// The book with our own quote in it, the newest fills and orders, and the parameters.

import { serverNow } from "./clock.js";
import { added } from "./decimal.js";
import { $, setData, setText, setVar, showNode } from "./dom.js";
import { compare, counted, plain, whole } from "./format.js";
import { isQuoted, onChange, onTick, symbols } from "./store.js";
import { Source, first, name } from "./symbol_source.js";

const LEVELS = 10; // a side
const EVERY_MS = 1000;
const ANYWAY_MS = 5000;
const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const STATES = { resting: "rests", partially_filled: "partly filled", filled: "filled", cancelled: "cancelled", rejected: "rejected" };
const REJECTS = { fok_unfillable: "not in full", no_liquidity: "nothing to trade with" };

let read = first.now;
let drawn = "";

// The book

function side(levels, price, size) {
  const all = new Map(levels.map(([at, quantity, orders]) => [at, { price: at, quantity, orders, ours: null }]));
  if (price !== null) {
    const level = all.get(price) ?? { price, quantity: null, orders: 0, ours: null };
    all.set(price, { ...level, ours: size });
  }
  return [...all.values()];
}

function sum(a, b) {
  return a === null || b === null ? a ?? b : added(a, b);
}

function book() {
  const row = symbols.get(name);
  const quoted = row && isQuoted(row, serverNow());
  const bids = side(read.bids, quoted ? row.bid : null, row?.bid_size);
  const asks = side(read.asks, quoted ? row.ask : null, row?.ask_size);
  bids.sort((a, b) => compare(b.price, a.price));
  asks.sort((a, b) => compare(a.price, b.price));
  const best = [bids.slice(0, LEVELS), asks.slice(0, LEVELS)];
  const key = JSON.stringify([best, quoted, row?.enabled, row?.spread_ticks]);
  if (key === drawn) return;
  drawn = key;
  const most = Math.max(0, ...best.flat().map((level) => Number(sum(level.quantity, level.ours))));
  levels("book-bids", best[0], most);
  levels("book-asks", best[1].reverse(), most);
  const spread = row?.spread_ticks ?? null;
  const words = !row?.enabled ? "Quoting is off" : !quoted ? "No quote of ours is live" : spread === null ? "Our quote has one side" : `Our spread: ${counted(spread, "tick")}`;
  setText($("#book-middle th"), words);
}

function levels(id, shown, most) {
  const body = document.getElementById(id);
  while (body.childElementCount > LEVELS) body.lastElementChild.remove();
  while (body.childElementCount < LEVELS) body.append(level());
  const asks = id === "book-asks";
  [...body.children].forEach((line, index) => {
    const at = shown[asks ? index - (LEVELS - shown.length) : index]; // the best ones stand beside the middle
    const [price, size, orders, ours] = line.children;
    setData(line, "empty", String(!at));
    setText(price, at ? plain(at.price) : "");
    const total = at ? sum(at.quantity, at.ours) : null;
    setText($(".amount", size), at ? plain(total) : "");
    setVar($(".depth", size), "--share", at && most > 0 ? (Number(total) / most).toFixed(3) : "0");
    setText(orders, at ? whole(at.orders + (at.ours === null ? 0 : 1)) : "");
    setText(ours, at?.ours ? `● ${plain(at.ours)}` : "");
    setData(line, "ours", String(Boolean(at?.ours)));
    if (at) line.dataset.price = at.price;
    else delete line.dataset.price;
  });
}

function level() {
  const line = document.createElement("tr");
  for (const kind of ["price num", "size num", "num", "ours"]) {
    const cell = document.createElement("td");
    cell.className = kind;
    line.append(cell);
  }
  const depth = document.createElement("i");
  depth.className = "depth";
  depth.setAttribute("aria-hidden", "true");
  const amount = document.createElement("span");
  amount.className = "amount";
  line.children[1].append(depth, amount);
  return line;
}

// Fills and orders

function rows(id, items, cellsOf, keyOf) {
  const body = document.getElementById(`${id}-body`);
  const known = new Map([...body.children].map((line) => [line.dataset.key, line]));
  const lines = items.map((item) => {
    const line = known.get(keyOf(item)) ?? document.createElement("tr");
    line.dataset.key = keyOf(item);
    line.dataset.side = item.side;
    const cells = cellsOf(item);
    cells.forEach(([text, className, node], index) => {
      const cell = line.children[index] ?? line.appendChild(document.createElement("td"));
      if (cell.className !== className) cell.className = className;
      if (node) chip(cell, text);
      else setText(cell, text);
    });
    line.children[0].title = item.at;
    return line;
  });
  if (lines.length !== body.childElementCount || lines.some((line, index) => line !== body.children[index])) body.replaceChildren(...lines);
  document.getElementById(`${id}-empty`).hidden = items.length > 0;
}

function chip(cell, node) {
  if (!cell.firstElementChild) {
    const label = document.createElement("span");
    label.className = "node";
    const square = document.createElement("i");
    square.className = "chip";
    square.setAttribute("aria-hidden", "true");
    const text = document.createElement("span");
    text.className = "name";
    label.append(square, text);
    cell.append(label);
  }
  showNode(cell.firstElementChild, node);
}

function fill(item) {
  return [
    [time.format(new Date(item.at)), "time"],
    [item.side === "buy" ? "▲ bought" : "▼ sold", "way"],
    [plain(item.quantity), "num"],
    [plain(item.price), "num"],
    [plain(item.position), "num"],
    [item.node, "wide", true],
    [whole(item.epoch), "num wide"],
    [item.client_order_id, "wide id"],
  ];
}

function order(item) {
  const state = STATES[item.status] ?? item.status;
  return [
    [time.format(new Date(item.at)), "time"],
    [item.side === "buy" ? "▲ buy" : "▼ sell", "way"],
    [plain(item.quantity), "num"],
    [item.price === null ? "market" : plain(item.price), "num"],
    [plain(item.filled), "num"],
    [item.reject_code ? `${state}: ${REJECTS[item.reject_code] ?? item.reject_code}` : state, "state-of"],
    [`${item.type} ${item.time_in_force}`, "wide"],
    [item.client_order_id, "wide id"],
  ];
}

// Together

function take(answer) {
  read = answer;
  for (const place of document.querySelectorAll("[data-parameter]")) setText(place, plain(answer.parameters[place.dataset.parameter]));
  setText(document.getElementById("parameters-version"), `version ${answer.parameters.parameters_version}`);
  setText(document.getElementById("recent-orders-looked"), whole(answer.looked));
  rows("recent-fills", answer.fills, fill, (item) => item.fill_id);
  rows("recent-orders", answer.orders, order, (item) => item.client_order_id);
  book();
}

const source = new Source("now", {
  atMostEveryMs: () => EVERY_MS,
  atLeastEveryMs: ANYWAY_MS,
  take,
  failed: (why) => {
    const count = document.getElementById("book-count");
    setText(count, why ? "not the newest" : "");
    count.title = why;
  },
  known: true,
});

onChange(({ activity, skipped }) => {
  if (skipped || activity.some((entry) => entry.symbol === name)) source.want();
  book();
});
onTick(book); // a quote lapses by time alone
take(first.now);
