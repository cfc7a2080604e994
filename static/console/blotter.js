// What the fills' and the orders' pages have in common: how old their rows are, and how many have come since. The rows
// themselves stay where they are: nothing moves under a reader.

import { serverNow } from "./clock.js";
import { $, setText, showNode } from "./dom.js";
import { age, counted, whole } from "./format.js";
import { onChange, symbols } from "./store.js";

const asOf = document.getElementById("as-of");
const newer = document.getElementById("newer");
const said = document.getElementById("newer-said");
const EVERY_MS = 1000;
const NAMED_AFTER_MS = 5000; // until then the page is as good as now

for (const place of document.querySelectorAll(".node[data-node]")) showNode(place, place.dataset.node);

function paintAge() {
  const oldMs = serverNow() - Date.parse(asOf.dateTime);
  setText(document.getElementById("as-of-age"), oldMs < NAMED_AFTER_MS ? "" : ` · ${age(oldMs)} ago`);
}

if (asOf) {
  paintAge();
  setInterval(paintAge, EVERY_MS);
}

/** Say that `count` rows, `kind` in words, have come since the page was read; `more`: at least so many. */
export function tellNewer(count, kind, { more = false, unsure = false } = {}) {
  if (!newer) return;
  newer.hidden = count <= 0;
  if (count <= 0) return;
  const number = more ? `${whole(count)} or more new ${kind}s` : counted(count, `new ${kind}`);
  const text = `${number}${unsure ? " (not all may pass the filter)" : ""} since you opened this page`;
  if (newer.dataset.text === text) return;
  newer.dataset.text = text;
  newer.dataset.count = String(count);
  newer.replaceChildren(`${text}: `, Object.assign(document.createElement("u"), { textContent: "show" }));
  if (!said.textContent) said.textContent = text; // read out once: it would go on and on
}

/** What the page was read with: {known, symbol, narrow, ended, address}, or null when it shows no rows. */
export const opened = newer && {
  known: Number(newer.dataset.known),
  symbol: newer.dataset.symbol,
  narrow: newer.dataset.narrow === "true",
  ended: newer.dataset.ended === "true",
  address: newer.dataset.address,
};

// The symbols to choose from, as the stream names them.
const names = [document.getElementById("symbol-names"), document.getElementById("ticket-symbols")].filter(Boolean);
let listed = 0;
onChange(() => {
  if (symbols.size === listed) return;
  listed = symbols.size;
  const sorted = [...symbols.keys()].sort();
  for (const list of names) list.replaceChildren(...sorted.map((name) => new Option(name, name)));
});

// Fields that are left empty have no place in the address.
const filter = document.getElementById("filter");
filter?.addEventListener("submit", () => {
  for (const field of filter.elements) if (field.name && field.value === "") field.disabled = true;
});
window.addEventListener("pageshow", () => {
  for (const field of filter?.elements ?? []) field.disabled = false;
});
