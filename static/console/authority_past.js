// Who held what, as the server told it, and how that is kept up to date: changes are asked for, never assumed.

import { serverNow } from "./clock.js";
import { leaseLeftMs, onChange, page, symbols } from "./store.js";

const INTERVAL_MS = 1000; // at most one read a second, however much happens
const SLOW_MS = 15000; // a change that nobody told of is found by then
const LATE_MS = 3000; // told of, but not read for so long: the picture stops at what is known
const RETRY_MS = 2000;
const WAIT_MS = 12000;
const KEPT_MAX = 60000; // tenures; then all is read anew, which leaves out what is out of sight
const PLANNED = new Set(["released", "drained"]);
const BLINK_MS = 1000; // a planned handover shorter than this is a seam between two bars, not a gap

export const terms = JSON.parse(document.getElementById("terms").textContent);
/** Times in ms since 1970, by the database's clock. `heldFrom`: older tenures than that were left out, if it is set. */
export const past = {
  last: terms.last, now: null, since: null, heldFrom: null, failed: "",
  names: [], tenures: new Map(), lives: new Map(), generations: new Map(), refusals: new Map(),
};

const listeners = [];
let wanted = null; // "all" or "changes"
let horizon = null;
let toldAt = null; // when the stream told of a change that has not been read yet
let running = false;
let timer = null;
let notBefore = -Infinity; // performance.now()
let shownTo = null;

/** Be told when the past has been read, or could not be. */
export function onPast(listener) {
  listeners.push(listener);
}

export const rangeMs = () => terms.ranges[past.last];

export function setRange(last) {
  past.last = last;
  want("all");
}

/** The right edge: now while the page is fresh and nothing it was told of is unread; else it stays where it was. */
export function edge() {
  if (past.now === null) return null;
  const now = serverNow();
  const late = toldAt !== null && now - toldAt > LATE_MS;
  shownTo = Math.max(shownTo ?? 0, past.now, page.fresh && !late ? now : 0);
  return shownTo;
}

export function isRunning() {
  return page.fresh && past.now !== null && past.failed === "";
}

function want(what) {
  if (wanted !== "all") wanted = what;
  schedule();
}

function schedule() {
  if (running || timer || !wanted || document.hidden) return;
  timer = setTimeout(read, Math.max(0, notBefore - performance.now()));
}

async function read() {
  timer = null;
  const last = past.last;
  const query = new URLSearchParams({ last });
  if (wanted === "changes" && horizon !== null) query.set("after", horizon);
  const told = toldAt;
  [wanted, toldAt, running] = [null, null, true];
  notBefore = performance.now() + INTERVAL_MS;
  try {
    take(await ask(`/authority/history/?${query}`), last);
    past.failed = "";
  } catch (error) {
    past.failed = error.message;
    toldAt ??= told;
    if (toldAt !== null && told !== null) toldAt = Math.min(toldAt, told);
    wanted = query.has("after") ? wanted ?? "changes" : "all";
    notBefore = performance.now() + RETRY_MS;
  }
  running = false;
  for (const listener of listeners) listener();
  schedule();
}

/** The JSON at an address of this server. Throws an Error that says in words why there is none. */
export async function ask(address) {
  let answer;
  try {
    answer = await fetch(address, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(WAIT_MS) });
  } catch {
    throw new Error("the server does not answer");
  }
  if (answer.redirected || answer.status === 401) {
    location.reload();
    throw new Error("signed out");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error((body.detail ?? `the server answers ${answer.status}`).replace(/\.$/, ""));
  return body;
}

function take(answer, last) {
  if (answer.complete) {
    for (const kept of [past.tenures, past.lives, past.generations, past.refusals]) kept.clear();
    past.names = answer.symbols;
    past.since = Date.parse(answer.since);
    past.heldFrom = answer.known_from === null ? null : Date.parse(answer.known_from);
  }
  horizon = answer.horizon;
  past.now = Date.parse(answer.now);
  for (const [symbol, epoch, node, from, to, reason] of answer.tenures) put(symbol, { epoch, node, from, to, reason });
  for (const life of answer.lives) past.lives.set(life.id, life);
  for (const made of answer.generations) past.generations.set(made.generation, made);
  for (const [id, symbol, at, node, epoch, reason] of answer.refusals) past.refusals.set(id, { symbol, at, node, epoch, reason });
  forget();
  if (last !== past.last) wanted = "all";
}

/** Into its place among the symbol's tenures, which are in the order of their epochs. The newest ones change. */
function put(symbol, tenure) {
  let held = past.tenures.get(symbol);
  if (!held) past.tenures.set(symbol, (held = []));
  let place = held.length;
  while (place > 0 && held[place - 1].epoch >= tenure.epoch) place -= 1;
  held.splice(place, held[place]?.epoch === tenure.epoch ? 1 : 0, tenure);
}

/** What has moved out of sight. A tenure stays while it, or the gap that follows it, reaches into the range. */
function forget() {
  const oldest = past.now - rangeMs();
  let kept = 0;
  for (const held of past.tenures.values()) {
    let gone = 0;
    while (gone + 1 < held.length && held[gone + 1].from < oldest) gone += 1;
    if (gone) held.splice(0, gone);
    kept += held.length;
  }
  for (const [id, refusal] of past.refusals) if (refusal.at < oldest) past.refusals.delete(id);
  trim(past.refusals, 2 * terms.most.refusals);
  trim(past.generations, terms.most.generations);
  for (const [id, life] of past.lives) {
    if (past.lives.size <= terms.most.lives) break;
    if (life.ended_at !== null) past.lives.delete(id);
  }
  if (kept > KEPT_MAX) wanted = "all";
}

/** The oldest go first: a map keeps the order in which its entries came. */
function trim(map, most) {
  for (const key of map.keys()) {
    if (map.size <= most) break;
    map.delete(key);
  }
}

/**
 * What there was of a symbol from `left` to `right`, oldest first: {kind, from, to, tenure, before, after}. The kinds:
 * "held"; "none", nobody held it; "unknown", older than what was read. `to` is null while it lasts.
 */
export function spansOf(symbol, left, right) {
  const held = past.tenures.get(symbol) ?? [];
  const spans = [];
  const first = held[0];
  if (!first) return [{ kind: "none", from: left, to: null, before: null, after: null }];
  if (first.from > left) {
    const kind = first.epoch === 1 ? "none" : "unknown";
    spans.push({ kind, from: left, to: first.from, before: null, after: first });
  }
  for (let i = firstWithin(held, left); i < held.length; i += 1) {
    const [tenure, after] = [held[i], held[i + 1] ?? null];
    if (tenure.from > right) break;
    const to = endOf(symbol, tenure, right);
    if ((to ?? right) >= left) spans.push({ kind: "held", from: tenure.from, to, tenure, before: held[i - 1] ?? null, after });
    if (to === null) continue;
    const gapMs = (after?.from ?? right) - to;
    const seam = gapMs <= 0 || (after && PLANNED.has(tenure.reason) && gapMs < BLINK_MS);
    if (!seam && (after?.from ?? right) >= left) spans.push({ kind: "none", from: to, to: after?.from ?? null, before: tenure, after });
  }
  return spans;
}

/** The first that may reach beyond `left`: the one before the first that begins after it. */
function firstWithin(held, left) {
  let [low, high] = [0, held.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (held[middle].from > left) high = middle;
    else low = middle + 1;
  }
  return Math.max(0, low - 1);
}

/** Null while it is held. A lease that has expired is over, whether or not somebody has noted its end already. */
function endOf(symbol, tenure, right) {
  if (tenure.to !== null) return tenure.to;
  const row = symbols.get(symbol);
  if (!row || row.epoch !== tenure.epoch || row.node === null) return null;
  const leftMs = leaseLeftMs(row, right);
  return leftMs < 0 ? Math.max(tenure.from, right + leftMs) : null;
}

onChange(({ snapshot, activity, symbols: changed }) => {
  const news =
    activity.some((entry) => entry.group === "authority" || entry.group === "refusal") ||
    changed.some((row) => row.epoch > (past.tenures.get(row.symbol)?.at(-1)?.epoch ?? 0));
  if (!news && !snapshot) return;
  if (news) toldAt ??= serverNow();
  want("changes");
});
document.addEventListener("visibilitychange", () => document.hidden || want("changes"));
setInterval(() => page.fresh && want("changes"), SLOW_MS);
want("all");
