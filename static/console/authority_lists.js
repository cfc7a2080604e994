// The same in words: the newest changes, the nodes' lives, the generations of the assignment. All bounded.

import { $, clone, setData, setText, showNode } from "./dom.js";
import { counted, whole } from "./format.js";
import { capital, clock, duration, listed, moment } from "./authority_words.js";
import { edge, past, rangeMs, terms } from "./authority_past.js";
import { address } from "./authority_told.js";

const CHANGES_MAX = 50;
const LIVES_MAX = 80;
const GENERATIONS_MAX = 50;

export function paintLists(matches) {
  const now = edge();
  if (now === null) return;
  fill("changes", changes(now, matches), changeRow, now);
  fill("lives", lives(), lifeRow, now);
  fill("generations", [...past.generations.values()].sort((a, b) => b.generation - a.generation).slice(0, GENERATIONS_MAX), generationRow, now);
}

/** Rows are made once for each entry, found again by its key, and put in order. */
function fill(id, entries, make, now) {
  const list = document.getElementById(`${id}-list`);
  const old = new Map([...list.children].map((row) => [row.dataset.key, row]));
  const rows = entries.map((entry) => {
    const row = old.get(entry.key ?? String(entry.generation));
    return row ?? make(entry, now);
  });
  if (rows.length !== list.childElementCount || rows.some((row, i) => list.children[i] !== row)) list.replaceChildren(...rows);
  document.getElementById(`${id}-empty`).hidden = rows.length > 0;
}

function when(row, at, now) {
  const stamp = $("time", row);
  stamp.dateTime = new Date(at).toISOString();
  stamp.title = moment(at);
  setText(stamp, clock(at, now));
}

// Changes of who holds what, and what the fence refused

function changes(now, matches) {
  const since = now - rangeMs();
  const found = [];
  for (const [symbol, held] of past.tenures) {
    if (!matches(symbol)) continue;
    for (let i = held.length - 1; i >= 0; i -= 1) {
      const [tenure, before] = [held[i], held[i - 1]];
      if (i === held.length - 1 && tenure.to !== null && tenure.to >= since) found.push({ at: tenure.to, symbol, ended: tenure });
      if (tenure.from < since) break;
      found.push({ at: tenure.from, symbol, granted: tenure, before });
    }
  }
  for (const [id, refusal] of past.refusals) if (matches(refusal.symbol)) found.push({ at: refusal.at, symbol: refusal.symbol, id, refusal });
  found.sort((a, b) => b.at - a.at || (a.symbol < b.symbol ? -1 : 1));
  setText(document.getElementById("changes-count"), found.length > CHANGES_MAX ? `newest ${CHANGES_MAX} of ${whole(found.length)}` : "");
  return found.slice(0, CHANGES_MAX).map((it) => ({ ...it, key: keyOf(it) }));
}

function keyOf({ symbol, ended, granted, id }) {
  if (granted) return `${symbol} ${granted.epoch}`;
  return ended ? `${symbol} ${ended.epoch} ended` : `refused ${id}`;
}

function changeRow(change, now) {
  const row = clone("change-row");
  row.dataset.key = change.key;
  when(row, change.at, now);
  const link = $("a", row);
  link.textContent = change.symbol;
  link.href = address(change.symbol);
  const { granted, before, ended, refusal } = change;
  setData(row, "kind", granted ? "granted" : ended ? "ended" : "refused");
  const holder = $(".node", row);
  if (granted) {
    showNode(holder, granted.node);
    $(".k-epoch", row).textContent = whole(granted.epoch);
    $(".k-why", row).textContent = !before
      ? granted.epoch === 1 ? "Its first holder" : "Took over"
      : `${before.node === granted.node ? "Again" : `After ${before.node}`}: ${terms.ended[before.reason] ?? "ended"}, ${duration(granted.from - before.to)} before`;
  } else if (ended) {
    showNode(holder, null);
    holder.querySelector(".name").textContent = "nobody";
    $(".k-epoch", row).textContent = whole(ended.epoch);
    $(".k-why", row).textContent = `${ended.node}: ${terms.ended[ended.reason] ?? ended.reason}`;
  } else {
    showNode(holder, refusal.node);
    $(".k-epoch", row).textContent = whole(refusal.epoch);
    $(".k-why", row).textContent = `Write refused: ${terms.refused[refusal.reason] ?? refusal.reason}`;
  }
  return row;
}

// Nodes, as they came and went

function lives() {
  const found = [];
  for (const life of past.lives.values()) {
    const registered = Date.parse(life.registered_at);
    found.push({ key: `${life.id} born`, at: registered, life });
    if (life.ended_at !== null) found.push({ key: `${life.id} ended`, at: Date.parse(life.ended_at), life, livedMs: Date.parse(life.ended_at) - registered });
  }
  return found.sort((a, b) => b.at - a.at).slice(0, LIVES_MAX);
}

function lifeRow({ key, at, life, livedMs }, now) {
  const row = clone("life-row");
  row.dataset.key = key;
  when(row, at, now);
  showNode($(".node", row), life.node);
  const lost = livedMs !== undefined && !["released", "drained"].includes(life.end_reason);
  setData(row, "kind", livedMs === undefined ? "born" : lost ? "lost" : "left");
  $(".text", row).textContent = livedMs === undefined ? "Joined" : `${inWords(life.end_reason)}, after ${duration(livedMs)}`;
  return row;
}

const inWords = (reason) => (reason === "released" ? "Left on purpose" : capital(terms.ended[reason] ?? reason));

function generationRow(made, now) {
  const row = clone("generation-row");
  row.dataset.key = String(made.generation);
  when(row, Date.parse(made.at), now);
  $(".number", row).textContent = whole(made.generation);
  $(".text", row).textContent = capital(made.cause);
  $(".hint", row).textContent = `${counted(made.moves, "symbol")} moved, applied by ${made.by}. ${made.members.length ? `Members: ${listed(made.members)}` : "No members"}`;
  row.title = made.members.join(", ");
  return row;
}
