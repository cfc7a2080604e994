// The charts: price with our quote and fills, position, P&L. Read from the server, and continued by the stream until read again.
//
// Numbers are used to place things on the screen only; whatever is written out is the text that the server sent.

import { serverNow } from "./clock.js";
import { added } from "./decimal.js";
import { setText } from "./dom.js";
import { counted, plain, signed, whole } from "./format.js";
import { onChange, page, symbols } from "./store.js";
import { Plot, lastAt } from "./symbol_plot.js";
import { Source, choice, name } from "./symbol_source.js";

const SPAN_MS = { "5m": 300_000, "30m": 1_800_000, "2h": 7_200_000 };
// The longer the while, the less a second changes of its picture; the newest comes by the stream anyway.
const EVERY_MS = { "5m": 1000, "30m": 3000, "2h": 6000 };
const ANYWAY_MS = 20_000;
const DRAW_MS = 250;
const TAIL_MAX = 2000;
const MARK = 5; // pixels
const NEAR_PX = 6; // how near to the cursor a fill is told
const SPACINGS = 4; // points of a thinned-out series that are farther apart than so many usual distances have a gap between them

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clockSeconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const price = new Plot("plot-price", ["band", "bid", "ask", "reference", "buy", "sell"]);
const position = new Plot("plot-position", ["area", "zero", "limit", "position"], { times: false });
const pnl = new Plot("plot-pnl", ["zero", "realised", "total"]);
const plots = [price, position, pnl];
const readout = document.getElementById("chart-readout");
const hint = readout.textContent;

let model = null; // as read from the server
let tail = []; // the stream's rows since then
let shownTo = null; // where the picture ends, in the server's milliseconds
let pointed = null; // the time that the cursor is at
let drawn = null; // what the picture was drawn from, for the cursor to read

const range = choice("chart-range", () => source.choose()); // the picture stays until the other one is there

const source = new Source("chart", {
  atMostEveryMs: () => EVERY_MS[range()],
  atLeastEveryMs: ANYWAY_MS,
  query: () => `?range=${range()}`,
  take: (answer) => {
    model = parse(answer);
    tail = tail.filter((row) => row.at > model.now);
    notes(answer);
    draw();
  },
  failed: (why) => {
    if (why) setText(document.getElementById("chart-notes"), why);
  },
});

const point = ([at, text]) => ({ at, value: text === null ? null : Number(text), text });

function parse(answer) {
  return {
    now: answer.now,
    spanMs: SPAN_MS[range()],
    decimals: answer.price_decimals,
    reference: answer.reference.map(point),
    quotes: answer.quotes.points.map(([at, bid, ask, until]) => ({
      at,
      bid: bid === null ? null : Number(bid),
      ask: ask === null ? null : Number(ask),
      validUntil: until,
      text: [bid, ask],
    })),
    thinned: answer.quotes.stride > 1,
    fills: answer.fills.points.map(([at, sequence, side, text, quantity]) => ({ at, sequence, side, value: Number(text), text, quantity })),
    position: answer.position.map(point),
    realised: answer.realised.map(point),
    total: answer.total.map(point),
  };
}

function notes(answer) {
  const said = [];
  const { stride, in_all: inAll } = answer.fills;
  if (stride > 1) said.push(`Every ${ordinal(stride)} of ${counted(inAll, "fill")} is marked, and the position is drawn by them.`);
  if (answer.quotes.kept_from !== null) said.push(`Quotes are kept for a while only: here since ${clock.format(answer.quotes.kept_from)}.`);
  setText(document.getElementById("chart-notes"), said.join(" "));
}

function ordinal(number) {
  const tens = number % 100;
  const ending = tens > 10 && tens < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[number % 10] ?? "th";
  return `${whole(number)}${ending}`;
}

// The stream

onChange(({ symbols: changed, activity, skipped }) => {
  const row = changed.find((candidate) => candidate.symbol === name);
  if (row) {
    tail.push({
      at: serverNow(),
      price: row.price,
      bid: row.bid,
      ask: row.ask,
      validUntil: row.published_at === null ? null : Date.parse(row.valid_until),
      publishedAt: row.published_at === null ? null : Date.parse(row.published_at),
      position: row.position,
      realised: row.realised,
      unrealised: row.unrealised,
    });
    if (tail.length > TAIL_MAX) {
      tail.shift();
      source.want();
    }
  }
  if (skipped || activity.some((entry) => entry.symbol === name && (entry.group === "fill" || entry.group === "quote"))) source.want();
});

/** What was read, and what the stream has told since. */
function together() {
  const all = { ...model };
  for (const kind of ["reference", "quotes", "position", "realised", "total"]) all[kind] = [...model[kind]];
  for (const row of tail) {
    if (row.at <= model.now) continue;
    append(all.reference, row.at, row.price);
    const last = all.quotes.at(-1);
    if (!last || last.text[0] !== row.bid || last.text[1] !== row.ask || last.validUntil !== row.validUntil) {
      const number = (text) => (text === null ? null : Number(text));
      const at = Math.max(row.publishedAt ?? row.at, last?.at ?? 0);
      all.quotes.push({ at, bid: number(row.bid), ask: number(row.ask), validUntil: row.validUntil, text: [row.bid, row.ask] });
    }
    append(all.position, row.at, row.position);
    append(all.realised, row.at, row.realised);
    append(all.total, row.at, added(row.realised, row.unrealised));
  }
  return all;
}

function append(points, at, text) {
  if (points.at(-1)?.text !== text) points.push({ at, value: Number(text), text });
}

/** Let each hold until the next one begins, and the last one until `end`. */
function lasting(points, end) {
  return points.map((entry, index) => ({ ...entry, until: Math.min(points[index + 1]?.at ?? end, end) })).filter((entry) => entry.at < end);
}

/** A quote holds until the next one or until it lapses; of a series that leaves quotes out, only a long silence is a lapse. */
function lastingQuotes(points, end, thinned) {
  const most = thinned ? SPACINGS * ((points.at(-1)?.at ?? 0) - (points[0]?.at ?? 0)) / Math.max(1, points.length - 1) : 0;
  return points
    .map((entry, index) => {
      const next = points[index + 1]?.at ?? end;
      const lapse = entry.validUntil === null ? next : Math.max(entry.validUntil, entry.at + (points[index + 1] ? most : 0));
      return { ...entry, until: Math.min(next, lapse, end) };
    })
    .filter((entry) => entry.at < end);
}

// Drawing

function draw() {
  if (!model) return;
  shownTo = page.fresh || shownTo === null ? serverNow() : shownTo;
  const from = shownTo - model.spanMs;
  const all = together();
  const inside = (entry) => entry.until > from;
  drawn = {
    ...all,
    reference: lasting(all.reference, shownTo).filter(inside),
    quotes: lastingQuotes(all.quotes, shownTo, all.thinned).filter(inside),
    position: lasting(all.position, shownTo).filter(inside),
    realised: lasting(all.realised, shownTo).filter(inside),
    total: lasting(all.total, shownTo).filter(inside),
    fills: all.fills.filter((entry) => entry.at >= from),
  };
  prices(from);
  positions(from);
  results(from);
  plots.forEach((plot) => plot.point(pointed));
  read();
}

const times = (at, every) => (every < 60_000 ? clockSeconds : clock).format(at);

function prices(from) {
  const unit = 10 ** -model.decimals;
  const values = [...drawn.reference, ...drawn.fills].map((entry) => entry.value);
  for (const { bid, ask } of drawn.quotes) values.push(...[bid, ask].filter((value) => value !== null));
  price.scale(from, shownTo, values, { unit, around: 2 * unit });
  price.frame((value) => plain(value.toFixed(model.decimals)), times);
  price.draw("band", price.band(drawn.quotes));
  for (const side of ["bid", "ask"]) price.draw(side, price.steps(drawn.quotes.map((entry) => ({ ...entry, value: entry[side] }))));
  price.draw("reference", price.steps(drawn.reference));
  price.draw("buy", price.marks(drawn.fills.filter((entry) => entry.side === "buy"), true, MARK));
  price.draw("sell", price.marks(drawn.fills.filter((entry) => entry.side === "sell"), false, MARK));
}

function positions(from) {
  const limit = Number(symbols.get(name)?.limit ?? 0);
  const places = (drawn.position.at(-1)?.text?.split(".")[1] ?? "").length;
  const values = [0, ...drawn.position.map((entry) => entry.value)];
  // The limits are drawn once the position comes near: else they would flatten it.
  if (Math.max(...values.map(Math.abs)) > limit / 2) values.push(limit, -limit);
  position.scale(from, shownTo, values, { unit: 10 ** -places });
  position.frame((value) => short(value, places), times);
  position.draw("area", position.filled(drawn.position));
  position.draw("zero", position.level(0));
  position.draw("limit", limit ? position.level(limit) + position.level(-limit) : "");
  position.draw("position", position.steps(drawn.position));
}

function results(from) {
  const values = [0, ...drawn.realised, ...drawn.total].map((entry) => (entry === 0 ? 0 : entry.value));
  pnl.scale(from, shownTo, values, { unit: 0.01 });
  pnl.frame((value) => short(value, 2), times);
  pnl.draw("zero", pnl.level(0));
  pnl.draw("realised", pnl.steps(drawn.realised));
  pnl.draw("total", pnl.steps(drawn.total));
}

/** A number of a scale: with no more decimals than it needs, and in thousands or millions when it is long. */
function short(value, places) {
  const size = Math.abs(value);
  const [number, unit] = size >= 1e6 ? [value / 1e6, "M"] : size >= 1e5 ? [value / 1e3, "k"] : [value, ""];
  const text = unit ? String(Number(number.toFixed(2))) : String(Number(number.toFixed(Math.min(places, 3))));
  return signed(text) + unit;
}

// Reading it with a pointer or the arrow keys

function read() {
  if (pointed === null || !drawn) return setText(readout, hint);
  const said = [clockSeconds.format(pointed)];
  const reference = lastAt(drawn.reference, pointed);
  if (reference) said.push(`reference ${plain(reference.text)}`);
  const quote = lastAt(drawn.quotes, pointed);
  const quoted = quote && quote.until >= pointed && (quote.bid !== null || quote.ask !== null);
  said.push(quoted ? `quote ${plain(quote.text[0])} / ${plain(quote.text[1])}` : "no quote");
  const near = (NEAR_PX * model.spanMs) / Math.max(1, price.right);
  const [closest] = drawn.fills.filter((entry) => Math.abs(entry.at - pointed) <= near).sort((a, b) => Math.abs(a.at - pointed) - Math.abs(b.at - pointed));
  if (closest) said.push(`${closest.side === "buy" ? "▲ bought" : "▼ sold"} ${plain(closest.quantity)} at ${plain(closest.text)}`);
  const held = lastAt(drawn.position, pointed);
  if (held) said.push(`position ${signed(held.text)}`);
  const result = lastAt(drawn.total, pointed);
  if (result) said.push(`P&L ${signed(result.text)}`);
  return setText(readout, said.join(" · "));
}

function moveTo(at) {
  pointed = at === null ? null : Math.min(Math.max(at, price.from), price.to);
  plots.forEach((plot) => plot.point(pointed));
  read();
}

const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 };
for (const plot of plots) {
  plot.box.addEventListener("pointermove", (event) => {
    if (!drawn) return;
    readout.setAttribute("aria-live", "off"); // a moving pointer would have it read out without end
    moveTo(plot.at(event.clientX - plot.box.getBoundingClientRect().left));
  });
  plot.box.addEventListener("pointerleave", () => moveTo(null));
  plot.box.addEventListener("blur", () => moveTo(null));
  plot.box.addEventListener("keydown", (event) => {
    if (!drawn) return;
    const by = KEYS[event.key];
    if (by === undefined && !["Home", "End", "Escape"].includes(event.key)) return;
    event.preventDefault();
    readout.setAttribute("aria-live", "polite");
    const places = { Home: price.from, End: price.to, Escape: null };
    moveTo(by === undefined ? places[event.key] : (pointed ?? price.to) + (by * model.spanMs) / 100);
  });
}

new ResizeObserver(() => {
  for (const plot of plots) plot.size();
  draw();
}).observe(price.box);

setInterval(() => page.fresh && !document.hidden && draw(), DRAW_MS);
