// Recent activity, newest on top. Bounded: what scrolls out is in the journal, not lost.

import { $, clone, setText } from "./dom.js";
import { whole } from "./format.js";
import { onChange } from "./store.js";

const SHOWN_MAX = 250;
const AT_ONCE_MAX = 20; // rows a message: more than ten messages of these a second nobody reads, so they are sampled
const SAMPLED = new Set(["fill", "trade", "order", "quote"]); // the rest is rare, and always shown
const SAYS_SO_MS = 3000;
const TAGS = {
  fill: "fill",
  trade: "trade",
  order: "order",
  quote: "quote",
  authority: "authority",
  refusal: "refused",
  operator: "operator",
};

const list = document.getElementById("feed");
const pause = document.getElementById("feed-pause");
const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const hidden = new Set(); // groups that are not to be seen
let held = []; // entries that came while paused
let missed = 0; // ... and how many of them are no longer kept
let sampledAt = -Infinity;
let oneIn = 1;

onChange(({ activity, skipped, snapshot, resumed, gap }) => {
  if (snapshot && (!resumed || gap)) {
    list.replaceChildren();
    held = [];
    missed = 0;
  }
  if (resumed && gap) note("This page was away for long: earlier entries are left out");
  if (skipped) note(`${whole(skipped)} entries were left out here: this page could not keep up`);
  add(activity, snapshot);
});

/** At most AT_ONCE_MAX of them, the rare ones all. */
function sample(entries) {
  const many = entries.filter((entry) => SAMPLED.has(entry.group));
  const room = Math.max(1, AT_ONCE_MAX - (entries.length - many.length));
  if (many.length <= room) {
    if (performance.now() - sampledAt > SAYS_SO_MS) oneIn = 1;
    return entries;
  }
  sampledAt = performance.now();
  oneIn = Math.ceil(many.length / room);
  let seen = 0;
  return entries.filter((entry) => !SAMPLED.has(entry.group) || seen++ % oneIn === 0);
}

/** `entries` come oldest first. A reader who has scrolled down keeps their place. */
function add(entries, first) {
  const wanted = entries.filter((entry) => !hidden.has(entry.group));
  const chosen = first ? wanted : sample(wanted);
  if (pause.getAttribute("aria-pressed") === "true") {
    held.push(...chosen);
    if (held.length > SHOWN_MAX) missed += held.splice(0, held.length - SHOWN_MAX).length;
  } else {
    put(chosen);
  }
  describe();
}

function put(entries) {
  list.prepend(...entries.slice(-SHOWN_MAX).reverse().map(row));
  while (list.childElementCount > SHOWN_MAX) list.lastElementChild.remove();
}

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  list.prepend(item);
}

function describe() {
  const empty = document.getElementById("feed-empty");
  empty.hidden = list.childElementCount > 0;
  setText(empty, hidden.size ? "Nothing of what is ticked has happened yet." : "Nothing has happened yet. Orders and fills appear here as they come.");
  const says = [];
  if (oneIn > 1) says.push(`1 in ${oneIn} shown: too fast to read`);
  if (held.length || missed) says.push(`${whole(held.length + missed)} new`);
  setText($("#feed-count"), says.join(", "));
}

pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(paused));
  setText(pause, paused ? "Go on" : "Pause");
  if (!paused) {
    if (missed) note(`${whole(missed)} entries came and went while this was paused`);
    put(held);
    held = [];
    missed = 0;
  }
  describe();
});

document.getElementById("feed-filter").addEventListener("change", (event) => {
  const groups = event.target.value.split(" ");
  for (const group of groups) event.target.checked ? hidden.delete(group) : hidden.add(group);
  for (const item of list.children) if (item.dataset.group) item.hidden = hidden.has(item.dataset.group);
  describe();
});

function row(entry) {
  const item = clone("feed-row");
  const stamp = $("time", item);
  stamp.dateTime = entry.at;
  stamp.title = entry.at;
  stamp.textContent = time.format(new Date(entry.at));
  const tag = $(".tag", item);
  const side = entry.group === "fill" ? entry.side : "";
  tag.textContent = side || TAGS[entry.group] || entry.group;
  item.dataset.group = entry.group;
  item.dataset.id = entry.id;
  if (side) item.dataset.side = side;
  if (entry.symbol) {
    const link = $(".where", item);
    link.textContent = entry.symbol;
    link.href = `/symbols/${encodeURIComponent(entry.symbol)}/`;
  }
  $(".text", item).textContent = entry.text;
  return item;
}
