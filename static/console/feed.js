// Recent activity, newest on top. Bounded: what scrolls out is in the journal, not lost.

import { $, clone, setText } from "./dom.js";
import { whole } from "./format.js";
import { onChange } from "./store.js";

const list = document.getElementById("feed");
const SHOWN_MAX = 250;
const TAGS = {
  fill: "fill",
  trade: "trade",
  order: "order",
  quote: "quote",
  authority: "authority",
  refusal: "refused",
  operator: "operator",
};
const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

onChange(({ activity, skipped, snapshot, resumed, gap }) => {
  if (snapshot && (!resumed || gap)) list.replaceChildren();
  if (resumed && gap) note("This page was away for long: earlier entries are left out");
  add(activity, skipped);
});

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  list.prepend(item);
}

/** `entries` come oldest first. A reader who has scrolled down keeps their place. */
function add(entries, skipped) {
  if (skipped) note(`${whole(skipped)} entries were left out here: this page could not keep up`);
  const newest = entries.slice(-SHOWN_MAX).reverse().map(row);
  list.prepend(...newest);
  while (list.childElementCount > SHOWN_MAX) list.lastElementChild.remove();
  const empty = document.getElementById("feed-empty");
  empty.hidden = list.childElementCount > 0;
  setText(empty, "Nothing has happened yet. Orders and fills appear here as they come.");
}

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
  if (side) item.dataset.side = side;
  $(".where", item).textContent = entry.symbol ?? "";
  $(".text", item).textContent = entry.text;
  return item;
}
