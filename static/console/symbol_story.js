// The authority of this symbol: each tenure as a bar and as a row, what was refused, and the story in words.

import { serverNow } from "./clock.js";
import { $, colourOf, setData, setText, showNode } from "./dom.js";
import { counted, whole } from "./format.js";
import { onChange, onTick, page } from "./store.js";
import { element } from "./symbol_plot.js";
import { Source, choice, name } from "./symbol_source.js";

const SPAN_MS = { "15m": 900_000, "1h": 3_600_000, "24h": 86_400_000 };
const LABEL_MS = { 900_000: [180_000, 300_000], 3_600_000: [600_000, 1_200_000], 86_400_000: [14_400_000, 28_800_000] }; // wide, narrow
const NARROW_PX = 600;
const EVERY_MS = 2000;
const ANYWAY_MS = 5000; // the sentences speak of times that pass
const DRAW_MS = 1000;
const TOP = 14; // above the bars: what was refused
const HEIGHT = 26;
const NAMED_PX = 60; // a bar so wide has its node's name in it
const GROUPS = new Set(["authority", "refusal", "operator", "quote"]);
const KINDS = { granted: "granted", ended: "ended", refused: "refused", withdrawn: "withdrawn", operator: "operator" };
const utc = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, timeZone: "UTC" });
const second = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: "UTC" });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", timeZone: "UTC" });
const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

const lane = document.getElementById("plot-tenures");
const svg = element("svg", "", { "aria-hidden": "true" });
lane.append(svg);

const readout = document.getElementById("story-readout");
const hint = readout.textContent;
let told = null;
let spanMs = SPAN_MS["1h"];
let shownTo = null;
let drawn = ""; // what the rows and the words were made from
let pointed = null; // the epoch that is read

const last = choice("story-range", () => source.choose());

const source = new Source("story", {
  atMostEveryMs: () => EVERY_MS,
  atLeastEveryMs: ANYWAY_MS,
  query: () => `?last=${last()}`,
  take: (answer) => {
    told = answer;
    spanMs = SPAN_MS[last()];
    present();
    const key = JSON.stringify([spanMs, told.tenures, told.refusals, told.events]);
    if (key !== drawn) {
      drawn = key;
      tenures();
      events();
    }
    notes("");
    draw();
    lasts();
  },
  failed: (why) => why && notes(why),
});

function notes(why) {
  const said = why ? [why] : [];
  if (!why && told.left_out) said.push(`${counted(told.left_out, "older event")} left out of the words.`);
  if (!why && told.truncated) said.push("More happened than is told here: choose a shorter time.");
  setText(document.getElementById("story-notes"), said.join(" "));
}

// In words

function present() {
  const place = document.getElementById("story-now");
  while (place.childElementCount > told.now.length) place.lastElementChild.remove();
  told.now.forEach((sentence, index) => {
    const line = place.children[index] ?? place.appendChild(document.createElement("p"));
    setText(line, sentence);
  });
  setText(document.getElementById("story-at"), `as of ${second.format(new Date(told.at))} UTC`);
}

function moment(at) {
  const then = new Date(at);
  return spanMs > 3_600_000 ? `${day.format(then)} ${utc.format(then)}` : utc.format(then);
}

function span(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

function tenures() {
  const body = document.getElementById("tenures-body");
  body.replaceChildren(...told.tenures.map(tenure));
  document.getElementById("tenures-empty").hidden = told.tenures.length > 0;
  setText(document.getElementById("story-count"), counted(told.tenures.length, "tenure"));
}

function tenure(row) {
  const line = document.createElement("tr");
  line.dataset.epoch = row.epoch;
  line.dataset.node = row.node;
  const cells = ["num epoch", "holder", "time", "num held", "why"].map((className) => {
    const cell = document.createElement("td");
    cell.className = className;
    line.append(cell);
    return cell;
  });
  cells[0].textContent = whole(row.epoch);
  const label = document.createElement("span");
  label.className = "node";
  label.append(Object.assign(document.createElement("i"), { className: "chip" }), Object.assign(document.createElement("span"), { className: "name" }));
  showNode(label, row.node);
  label.title = `incarnation ${row.incarnation}`;
  cells[1].append(label);
  cells[2].textContent = moment(row.granted_at);
  const ended = row.ended_at === null ? "" : `Ended: ${row.ended}.`;
  const refused = told.refusals.filter((refusal) => refusal.epoch === row.epoch).length;
  for (const [className, text] of [
    ["because", row.because ? `${row.because}.` : ""],
    ["ending", ended],
    ["refused", refused ? `✕ ${counted(refused, "late write")} under it refused.` : ""],
  ]) {
    if (!text) continue;
    const part = document.createElement("span");
    part.className = className;
    part.textContent = text;
    cells[4].append(part, " ");
  }
  return line;
}

/** How long each tenure has lasted; the present one goes on. */
function lasts() {
  const now = shownTo ?? serverNow();
  const lines = document.getElementById("tenures-body").children;
  told.tenures.forEach((row, index) => {
    const end = row.ended_at === null ? now : Date.parse(row.ended_at);
    setText($(".held", lines[index]), span(end - Date.parse(row.granted_at)) + (row.ended_at === null ? " so far" : ""));
  });
}

function events() {
  const list = document.getElementById("events");
  list.replaceChildren(
    ...told.events.map((event) => {
      const item = document.createElement("li");
      item.dataset.kind = event.kind;
      const time = document.createElement("time");
      time.dateTime = event.at;
      time.textContent = moment(event.at);
      const tag = document.createElement("span");
      tag.className = "tag";
      tag.textContent = KINDS[event.kind] ?? event.kind;
      const text = document.createElement("span");
      text.className = "text";
      text.textContent = event.text;
      item.append(time, tag, text);
      return item;
    }),
  );
  document.getElementById("events-empty").hidden = told.events.length > 0;
}

// As a picture

function draw() {
  if (!told) return;
  shownTo = page.fresh || shownTo === null ? serverNow() : shownTo;
  const width = lane.clientWidth;
  const height = lane.clientHeight;
  const from = shownTo - spanMs;
  const inner = width - 16;
  const x = (at) => 8 + ((Math.min(Math.max(at, from), shownTo) - from) / (shownTo - from)) * inner;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const parts = [element("rect", "nobody", { x: 8, y: TOP, width: inner, height: HEIGHT })];
  for (const row of [...told.tenures].reverse()) parts.push(...bar(row, x));
  for (const refusal of told.refusals) {
    const at = x(Date.parse(refusal.at));
    if (Date.parse(refusal.at) < from) continue;
    parts.push(element("path", "refusal", { d: `M${(at - 4).toFixed(1)} 2l8 8m0 -8l-8 8` }));
  }
  const every = LABEL_MS[spanMs][width < NARROW_PX ? 1 : 0];
  for (let at = Math.ceil(from / every) * every; at <= shownTo; at += every) {
    const label = element("text", "", { x: x(at).toFixed(1), y: height - 6, "text-anchor": "middle" });
    label.textContent = hour.format(at);
    if (x(at) > 20 && x(at) < width - 20) parts.push(label);
  }
  svg.replaceChildren(...parts);
}

function bar(row, x) {
  const end = row.ended_at === null ? shownTo : Date.parse(row.ended_at);
  const left = x(Date.parse(row.granted_at));
  const wide = Math.max(1, x(end) - left);
  const shape = element("rect", "tenure", { x: left.toFixed(1), y: TOP, width: wide.toFixed(1), height: HEIGHT });
  setData(shape, "colour", colourOf(row.node));
  setData(shape, "epoch", String(row.epoch));
  setData(shape, "read", String(row.epoch === pointed));
  if (wide < NAMED_PX) return [shape];
  const label = element("text", "named", { x: (left + 8).toFixed(1), y: TOP + HEIGHT / 2 + 4 });
  label.textContent = wide > 2 * NAMED_PX ? `${row.node} · epoch ${whole(row.epoch)}` : row.node;
  return [shape, label];
}

// Reading it with a pointer or the arrow keys

function read(epoch) {
  pointed = epoch;
  const row = told?.tenures.find((candidate) => candidate.epoch === epoch);
  if (!row) {
    setText(readout, hint);
  } else {
    const end = row.ended_at === null ? shownTo : Date.parse(row.ended_at);
    const held = span(end - Date.parse(row.granted_at)) + (row.ended_at === null ? " so far" : `, ended: ${row.ended}`);
    const refused = told.refusals.filter((refusal) => refusal.epoch === epoch).length;
    setText(readout, `${row.node} · epoch ${whole(epoch)} · from ${moment(row.granted_at)} · ${held}${refused ? ` · ✕ ${counted(refused, "late write")} refused` : ""}`);
  }
  for (const shape of svg.querySelectorAll(".tenure")) setData(shape, "read", String(Number(shape.dataset.epoch) === epoch));
}

lane.addEventListener("pointermove", (event) => {
  if (!told) return;
  readout.setAttribute("aria-live", "off"); // a moving pointer would have it read out without end
  const box = lane.getBoundingClientRect();
  const at = shownTo - spanMs * (1 - (event.clientX - box.left - 8) / (box.width - 16));
  const row = told.tenures.find((candidate) => Date.parse(candidate.granted_at) <= at);
  read(row && (row.ended_at === null || Date.parse(row.ended_at) >= at) ? row.epoch : null);
});
lane.addEventListener("pointerleave", () => read(null));
lane.addEventListener("blur", () => read(null));
lane.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
  if (!by || !told?.tenures.length) return;
  event.preventDefault();
  readout.setAttribute("aria-live", "polite");
  const index = told.tenures.findIndex((row) => row.epoch === pointed);
  const next = index < 0 ? 0 : Math.min(Math.max(index + by, 0), told.tenures.length - 1);
  read(told.tenures[next].epoch);
});

onChange(({ activity, skipped }) => {
  if (skipped || activity.some((entry) => GROUPS.has(entry.group) && (entry.symbol === name || entry.symbol === null))) source.want();
});

let drawnAt = 0;
onTick(() => {
  if (!told || performance.now() - drawnAt < DRAW_MS) return;
  drawnAt = performance.now();
  draw();
  lasts();
});
new ResizeObserver(draw).observe(lane);
