// The authority page: the picture, what one points at, and what stands beside it.

import { begin } from "./shell.js";
import { $, clone, setData, setText, showNode } from "./dom.js";
import { whole } from "./format.js";
import { onChange, onTick, page, symbols } from "./store.js";
import { edge, isRunning, onPast, past, rangeMs, setRange, spansOf, terms } from "./authority_past.js";
import { Picture } from "./authority_picture.js";
import { address, sayAloud, tell, tellMark, tellNothing } from "./authority_told.js";
import { paintLists } from "./authority_lists.js";
import { filterObligation, readObligation } from "./authority_obligation.js";
import { clock } from "./authority_words.js";

const LEGEND_MAX = 16;
const PAGE_ROWS = 10;
const order = new Intl.Collator("en", { numeric: true });
const frame = document.getElementById("lanes");
const canvas = document.getElementById("picture");
const filter = document.getElementById("filter");
const dense = document.getElementById("dense");
const picture = new Picture(frame, canvas, document.getElementById("sheet"));

let wanted = "";
const matches = (symbol) => symbol.includes(wanted);

// What is shown

function arrange() {
  const names = new Set([...past.names, ...symbols.keys()]);
  const shown = [...names].filter(matches).sort(order.compare);
  const same = shown.length === picture.names.length && shown.every((name, i) => name === picture.names[i]);
  if (!same) picture.show(shown);
  dense.checked = picture.isDense();
  const count = shown.length < names.size ? `${whole(shown.length)} of ${whole(names.size)} symbols` : `${whole(names.size)} symbol${names.size === 1 ? "" : "s"}`;
  setText(document.getElementById("lanes-count"), past.now === null ? "" : count);
  sayWhatIsMissing(shown, names);
}

function sayWhatIsMissing(shown, names) {
  const empty = document.getElementById("lanes-empty");
  const text =
    past.now === null
      ? past.failed ? "" : "Reading the history."
      : !names.size
        ? "No symbols are listed. make run SYMBOLS=10 starts a market with ten."
        : !shown.length
          ? "No symbol matches the filter."
          : past.tenures.size
            ? ""
            : "Nobody has ever held a symbol. manage.py runnode --name NAME starts a node, which takes its share of them.";
  setText(empty, text);
  empty.hidden = !text;
}

function note() {
  const notes = [];
  if (past.failed) notes.push(`The history cannot be read now: ${past.failed}.${past.now === null ? "" : ` The picture is as of ${clock(edge())}.`}`);
  if (past.heldFrom !== null && past.heldFrom > edge() - rangeMs()) {
    notes.push(`Only the newest ${whole(terms.most.tenures)} tenures are read: complete from ${clock(past.heldFrom, edge())} on.`);
  }
  const oldest = Math.min(...[...past.lives.values()].map((life) => Date.parse(life.registered_at)));
  if (past.lives.size >= terms.most.lives && oldest > edge() - rangeMs()) notes.push(`Only the newest ${terms.most.lives} lives of nodes are marked.`);
  if (past.refusals.size >= terms.most.refusals) notes.push(`Only the newest ${terms.most.refusals} refused writes are marked.`);
  const place = document.getElementById("lanes-note");
  setText(place, notes.join(" "));
  place.hidden = !notes.length;
}

function legend() {
  const left = edge() - rangeMs();
  const nodes = new Set();
  for (const held of past.tenures.values()) {
    for (let i = held.length - 1; i >= 0; i -= 1) {
      if (held[i].to === null || held[i].to >= left) nodes.add(held[i].node);
      if (held[i].from < left) break;
    }
  }
  const names = [...nodes].sort(order.compare);
  const list = document.getElementById("legend-nodes");
  const said = names.join(" ");
  if (list.dataset.nodes === said) return;
  list.dataset.nodes = said;
  const items = names.slice(0, LEGEND_MAX).map((name) => {
    const item = clone("legend-node");
    showNode($(".node", item), name);
    return item;
  });
  if (names.length > LEGEND_MAX) items.push(Object.assign(document.createElement("li"), { textContent: `and ${names.length - LEGEND_MAX} more` }));
  list.replaceChildren(...items);
}

function retell() {
  const span = picture.focused();
  if (span && picture.names.includes(picture.focus.symbol)) tell(picture.focus.symbol, span);
}

onPast(() => {
  arrange();
  note();
  if (past.now === null) return;
  legend();
  paintLists(matches);
  picture.ask();
  retell();
});
onChange(({ snapshot, symbolsGone, symbols: changed }) => {
  if (snapshot || symbolsGone.length || changed.some(({ symbol }) => !past.names.includes(symbol))) arrange();
});
onTick(() => {
  picture.tick();
  retell();
});
// What stopped must be seen to have stopped: nothing ticks then.
new MutationObserver(() => {
  setData(frame, "running", String(isRunning()));
  note();
  picture.ask();
  retell();
}).observe(document.body, { attributes: true, attributeFilter: ["data-fresh"] });

// What is asked for

for (const choice of document.querySelectorAll("input[name=last]")) {
  choice.checked = choice.value === past.last;
  choice.addEventListener("change", () => {
    const query = new URLSearchParams(location.search);
    query.set("last", choice.value);
    history.replaceState(null, "", `?${query}`);
    picture.focus = null;
    tellNothing();
    setRange(choice.value);
    readObligation();
    picture.ask();
  });
}
filter.addEventListener("input", () => {
  wanted = filter.value.trim().toUpperCase();
  frame.scrollTop = 0;
  arrange();
  paintLists(matches);
  filterObligation(matches);
});
dense.addEventListener("change", () => {
  picture.dense = dense.checked;
  picture.resize();
});

// Pointing

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
};

function point(event) {
  const found = picture.at(place(event));
  setData(frame, "over", found?.symbol ? "row" : "");
  if (found?.mark) tellMark(found.mark);
  else if (found?.span) {
    picture.focus = { symbol: found.symbol, from: found.span.from, at: found.at };
    tell(found.symbol, found.span);
  }
  return found;
}

canvas.addEventListener("pointermove", (event) => {
  if (event.pointerType === "touch") return;
  picture.pointer = place(event);
  point(event);
  picture.ask();
});
canvas.addEventListener("pointerleave", () => {
  picture.pointer = null;
  picture.ask();
});
canvas.addEventListener("click", (event) => {
  const found = point(event);
  picture.ask();
  // A finger cannot hover: its first touch tells, and the panel has the link.
  if (!found?.symbol || event.pointerType === "touch") return;
  if (event.ctrlKey || event.metaKey) window.open(address(found.symbol), "_blank", "noopener");
  else location.assign(address(found.symbol));
});

// The same by keys

function move(symbol, choose) {
  const spans = spansOf(symbol, picture.left, picture.right);
  const index = Math.max(0, Math.min(spans.length - 1, choose(spans)));
  const span = spans[index];
  if (!span) return;
  const [from, to] = [Math.max(span.from, picture.left), span.to ?? picture.right];
  picture.focus = { symbol, from: span.from, at: (from + to) / 2 };
  picture.reveal(symbol);
  picture.ask();
  tell(symbol, span);
  sayAloud(symbol, span, index + 1, spans.length);
}

function moveRow(steps) {
  const { symbol, at } = picture.focus;
  const row = Math.max(0, Math.min(picture.names.length - 1, picture.names.indexOf(symbol) + steps));
  move(picture.names[row], (spans) => spans.findIndex((it) => it.from <= at && at <= (it.to ?? picture.right)));
  picture.focus.at = at; // so that a walk down the rows keeps to one moment
}

function moveBar(step) {
  const { symbol, from } = picture.focus;
  move(symbol, (spans) => {
    const index = spans.findIndex((it) => it.from === from);
    return (index < 0 ? spans.length - 1 : index) + step;
  });
}

const KEYS = {
  ArrowUp: () => moveRow(-1),
  ArrowDown: () => moveRow(1),
  ArrowLeft: () => moveBar(-1),
  ArrowRight: () => moveBar(1),
  PageUp: () => moveRow(-PAGE_ROWS),
  PageDown: () => moveRow(PAGE_ROWS),
  Home: () => move(picture.focus.symbol, () => 0),
  End: () => move(picture.focus.symbol, (spans) => spans.length - 1),
  Enter: () => location.assign(address(picture.focus.symbol)),
};

frame.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey || past.now === null || !picture.names.length) return;
  event.preventDefault();
  const known = picture.focus && picture.names.includes(picture.focus.symbol);
  if (known) act();
  else if (event.key !== "Enter") move(picture.names[0], (spans) => spans.length - 1);
});
frame.addEventListener("focus", () => {
  const known = picture.focus && picture.names.includes(picture.focus.symbol);
  if (!known && picture.names.length && past.now !== null && frame.matches(":focus-visible")) {
    move(picture.names[Math.floor(frame.scrollTop / picture.row)], (spans) => spans.length - 1);
  }
});

begin();
setData(frame, "running", String(page.fresh));
readObligation();
