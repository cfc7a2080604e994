// What the stream has told: the newest state of every symbol and node, for whatever the page shows of it.

export const symbols = new Map(); // name -> row, see console/sql/state.sql
export const nodes = new Map();
export const summary = {};
export const page = { fresh: false, heard: false }; // fresh: as of now; heard: there has been a snapshot, or a first state

const listeners = [];
const clocks = [];

/**
 * Be told of each change: {snapshot, symbols, symbolsGone, nodes, nodesGone, activity, skipped, gap, resumed}, where
 * `symbols` and `nodes` are the rows that changed. `symbols`, `nodes` and `summary` here are up to date by then.
 */
export function onChange(listener) {
  listeners.push(listener);
}

/** Be called ten times a second while the page is seen and fresh: for what changes with time alone. */
export function onTick(listener) {
  clocks.push(listener);
}

export function tick() {
  for (const listener of clocks) listener();
}

/** Take in a message of the stream, or the state that a page was painted with. */
export function take(message, resumed = false) {
  const snapshot = message.type !== "update" && message.type !== "beat";
  const changed = { snapshot, resumed, gap: message.gap ?? false, activity: message.activity ?? [], skipped: message.skipped ?? 0 };
  for (const [kind, known, key] of [["symbols", symbols, "symbol"], ["nodes", nodes, "node"]]) {
    const rows = message[kind] ?? [];
    const names = new Set(rows.map((row) => row[key]));
    const gone = snapshot ? [...known.keys()].filter((name) => !names.has(name)) : message[`${kind}_gone`] ?? [];
    for (const name of gone) known.delete(name);
    for (const row of rows) known.set(row[key], row);
    changed[kind] = rows;
    changed[`${kind}Gone`] = gone;
  }
  Object.assign(summary, message.summary);
  page.heard = true;
  for (const listener of listeners) listener(changed);
}

export function isQuoted(symbol, now) {
  return symbol.enabled && (symbol.bid !== null || symbol.ask !== null) && Date.parse(symbol.valid_until) > now;
}

export function isAlive(node, now) {
  return node.ended_at === null && Date.parse(node.expires_at) > now;
}

/** How long the holder's lease on this symbol still is, in milliseconds; 0 or less when nobody holds it. */
export function leaseLeftMs(symbol, now) {
  const holder = symbol.node === null ? undefined : nodes.get(symbol.node);
  const holds = holder && holder.incarnation === symbol.incarnation && holder.ended_at === null;
  return holds ? Date.parse(holder.expires_at) - now : 0;
}
