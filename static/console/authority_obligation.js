// Quote obligation: how much of the time each symbol was quoted as it should be. Sorted, worst first unless asked otherwise.

import { $, clone, setData, setText, setVar } from "./dom.js";
import { serverNow } from "./clock.js";
import { age, whole } from "./format.js";
import { page, onTick } from "./store.js";
import { clock, duration } from "./authority_words.js";
import { ask, past } from "./authority_past.js";
import { address } from "./authority_told.js";

const EVERY_MS = 10000; // while the whole range is known; until then as often as the server is ready for
const FILL_MS = 1000; // ... but no more often than this
const RETRY_MS = 3000;
const SHOWN_MAX = 200;
const body = document.getElementById("obligation-list");
const note = document.getElementById("obligation-note");
const rows = new Map(); // symbol -> its row
const order = new Intl.Collator("en", { numeric: true });
const BY = {
  symbol: (a, b) => order.compare(a.symbol, b.symbol),
  share: (a, b) => Number(a.share ?? 101) - Number(b.share ?? 101) || b.missing_ms - a.missing_ms,
  missing: (a, b) => b.missing_ms - a.missing_ms,
  gap: (a, b) => (b.gap?.ms ?? 0) - (a.gap?.ms ?? 0),
};

let told = null; // the last answer, and readAt: when it was read, by the database's clock
let sorted = { by: "share", turned: false };
let matches = () => true;
let reading = null; // the range that is being read
let timer = null;
let failed = "";

/** Ask for another range, or again. */
export function readObligation() {
  clearTimeout(timer);
  if (document.hidden || reading === past.last) return;
  read(past.last);
}

async function read(last) {
  reading = last;
  let next = EVERY_MS;
  try {
    const answer = await ask(`/authority/obligation/?${new URLSearchParams({ last })}`);
    if (last !== past.last) return;
    told = { ...answer, readAt: serverNow() - answer.age_ms };
    next = Math.max(answer.is_filling ? FILL_MS : EVERY_MS, answer.due_ms);
    failed = "";
  } catch (error) {
    if (last !== past.last) return;
    failed = error.message;
    next = RETRY_MS;
  } finally {
    if (reading === last) reading = null;
  }
  paint();
  clearTimeout(timer);
  timer = setTimeout(readObligation, next);
}

export function filterObligation(wanted) {
  matches = wanted;
  paint();
}

function paint() {
  paintNote();
  if (!told) return;
  const found = told.symbols.filter((row) => matches(row.symbol)).sort(BY[sorted.by]);
  if (sorted.turned) found.reverse();
  const shown = found.slice(0, SHOWN_MAX);
  const count = shown.length < found.length ? `${SHOWN_MAX} of ${whole(found.length)} shown` : "";
  setText(document.getElementById("obligation-count"), count);
  const wanted = shown.map(paintRow);
  if (wanted.length !== body.childElementCount || wanted.some((row, i) => body.children[i] !== row)) body.replaceChildren(...wanted);
  for (const symbol of rows.keys()) if (!rows.get(symbol).isConnected) rows.delete(symbol);
  const empty = document.getElementById("obligation-empty");
  empty.hidden = shown.length > 0;
  if (told.symbols.length) setText(empty, "No symbol matches the filter.");
}

function paintRow(data) {
  let row = rows.get(data.symbol);
  if (!row) {
    rows.set(data.symbol, (row = clone("obligation-row")));
    row.dataset.symbol = data.symbol;
    $("a", row).textContent = data.symbol;
    $("a", row).href = address(data.symbol);
  }
  setText($(".percent", row), data.share === null ? "–" : `${data.share}%`);
  setVar($(".meter b", row), "--share", data.share === null ? "0" : String(Number(data.share) / 100));
  setData(row, "level", data.share === null ? "none" : Number(data.share) >= 99.9 ? "good" : Number(data.share) >= 99 ? "fair" : "poor");
  setText($(".o-missing", row), data.missing_ms ? duration(data.missing_ms) : data.share === null ? "–" : "none");
  setText($(".o-gap .long", row), data.gap ? `${duration(data.gap.ms)}${data.gap.lasts ? ", lasting" : ""}` : "none");
  setText($(".o-why", row), data.gap ? `${clock(data.gap.from_ms, told.to_ms)}: ${data.gap.text}` : "–");
  $(".o-why", row).title = data.gap?.text ?? "";
  setText($(".o-gap .many", row), data.gaps > 1 ? `of ${whole(data.gaps)}` : "");
  return row;
}

function paintNote() {
  const parts = [];
  if (told?.is_filling) {
    const share = Math.floor((100 * (told.to_ms - told.from_ms)) / (told.to_ms - told.asked_from_ms));
    parts.push(`Read back to ${clock(told.from_ms, told.to_ms)} so far, ${share}% of the time asked for; what follows is of that time. Reading on.`);
  } else if (told?.is_cut) parts.push(`Only the newest ${whole(told.gaps_max)} gaps are kept: judged since ${clock(told.from_ms, told.to_ms)}.`);
  if (told?.known_from_ms) parts.push(`Known from ${clock(told.known_from_ms, told.to_ms)} on: older quotes are dropped (MM_QUOTE_RETENTION_MS), and what is not known is not counted.`);
  setText(note, parts.join(" "));
  note.hidden = !parts.length;
  paintAge();
}

function paintAge() {
  const place = document.getElementById("obligation-age");
  const other = told && told.last !== past.last;
  const text = failed ? `Cannot be read now: ${failed}` : !told || other ? "Reading" : `${age(serverNow() - told.readAt)} old`;
  if (page.fresh || failed || !told) setText(place, failed && told && !other ? `${text}. What is shown is ${age(serverNow() - told.readAt)} old` : text);
  setData(place, "tone", failed ? "warn" : "");
  setData(body, "old", String(Boolean(other)));
}

for (const button of document.querySelectorAll("#obligation thead button")) {
  button.addEventListener("click", () => {
    const by = button.dataset.by;
    sorted = { by, turned: sorted.by === by && !sorted.turned };
    for (const other of document.querySelectorAll("#obligation thead th[aria-sort]")) {
      const mine = other.contains(button);
      const rising = (by === "symbol" || by === "share") !== sorted.turned;
      other.setAttribute("aria-sort", mine ? (rising ? "ascending" : "descending") : "none");
    }
    paint();
  });
}
let paintedAt = 0;
onTick(() => {
  if (performance.now() - paintedAt < 1000) return;
  paintedAt = performance.now();
  paintAge();
});
document.addEventListener("visibilitychange", () => document.hidden || readObligation());
