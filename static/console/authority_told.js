// What one bar or one gap of the picture says, for the panel under it and for those who listen.

import { $, setData, setText, showNode } from "./dom.js";
import { whole } from "./format.js";
import { capital, duration, moment } from "./authority_words.js";
import { edge, isRunning, past, terms } from "./authority_past.js";

const panel = document.getElementById("told");
const said = document.getElementById("told-aloud");
const hint = $(".hint", panel);
const facts = Object.fromEntries([...panel.querySelectorAll("dd")].map((dd) => [dd.dataset.fact, dd]));
const first = hint.textContent;

export function tellNothing() {
  setData(panel, "kind", "nothing");
  setText(hint, first);
}

/** A birth, a death or a generation. */
export function tellMark(mark) {
  setData(panel, "kind", "nothing");
  setText(hint, `${moment(mark.at, edge())}: ${markInWords(mark)}`);
}

function markInWords(mark) {
  if (mark.kind === "birth") return `${mark.node} joined`;
  if (mark.kind === "death") return `${mark.node} ${mark.verb}: ${terms.ended[mark.reason] ?? mark.reason}`;
  const { generation, by, moves, cause } = mark.made;
  return `assignment generation ${generation} by ${by}: ${moves} moved (${cause})`;
}

export function tell(symbol, span) {
  const right = edge();
  setData(panel, "kind", span.kind);
  setData(panel, "symbol", symbol);
  const link = $("a", facts.symbol);
  setText(link, symbol);
  if (link.getAttribute("href") !== address(symbol)) link.setAttribute("href", address(symbol));
  showNode($(".node", facts.holder), span.kind === "held" ? span.tenure.node : null);
  if (span.kind !== "held") setText($(".name", facts.holder), span.kind === "none" ? "nobody" : "not known");
  setText(facts.epoch, span.kind === "held" ? whole(span.tenure.epoch) : "–");
  const begins = span.kind !== "held" && !span.before; // the picture begins, not the span
  setText(facts.from, begins ? "before" : moment(span.from, right));
  setText(facts.to, span.to === null ? (isRunning() ? "now" : "not known since") : moment(span.to, right));
  setText(facts.long, (begins ? "at least " : "") + duration((span.to ?? right) - span.from));
  setText(facts.why, why(symbol, span));
}

export const address = (symbol) => `/symbols/${encodeURIComponent(symbol)}/`;

function why(symbol, span) {
  return capital({ held: whyHeld, none: whyNone, unknown: whyUnknown }[span.kind](span)) + refused(symbol, span);
}

function whyHeld({ tenure, to, after }) {
  if (to === null) return "still held";
  if (tenure.to === null) return "its lease expired without being renewed; its end is not noted yet";
  const ended = terms.ended[tenure.reason] ?? tenure.reason;
  if (!after) return `${ended}; nobody has taken over`;
  return `${ended}; ${after.node} took over under epoch ${whole(after.epoch)}, ${duration(after.from - to)} later`;
}

function whyNone({ before, after }) {
  const cause = before ? `${before.node}: ${terms.ended[before.reason] ?? "lease expired, its end is not noted yet"}` : "nobody had held it before";
  return after ? `${cause}; then ${after.node} took over under epoch ${whole(after.epoch)}` : cause;
}

function whyUnknown() {
  return `only the newest ${whole(terms.most.tenures)} tenures are read`;
}

function refused(symbol, span) {
  const within = [...past.refusals.values()].filter(
    (it) => it.symbol === symbol && it.at >= span.from && it.at <= (span.to ?? Infinity),
  );
  if (!within.length) return "";
  const last = within.at(-1);
  const times = within.length > 1 ? `${within.length} writes refused, the last` : "A write refused";
  return `. ${times} by ${last.node} under epoch ${whole(last.epoch)} at ${moment(last.at, edge())}: ${terms.refused[last.reason] ?? last.reason}`;
}

/** For a screen reader: one sentence, and only when somebody moved there. */
export function sayAloud(symbol, span, place, of) {
  const who = { held: () => `held by ${span.tenure.node} under epoch ${span.tenure.epoch}`, none: () => "held by nobody", unknown: () => "not known" }[span.kind]();
  const from = facts.from.textContent === "before" ? "from before" : `from ${facts.from.textContent}`;
  setText(said, `${symbol}, ${who}, ${from} to ${facts.to.textContent}, ${facts.long.textContent}. ${facts.why.textContent}. ${place} of ${of} in this row.`);
}
