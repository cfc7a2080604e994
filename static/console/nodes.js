// The nodes: who is here, until when, and what each holds.

import { serverNow } from "./clock.js";
import { $, clone, setData, setText, showNode } from "./dom.js";
import { counted } from "./format.js";
import { isAlive, nodes, onChange, onTick, summary, symbols } from "./store.js";
import { left } from "./symbols.js";

const list = document.getElementById("nodes-list");
const rows = new Map();

const ENDED = {
  released: "left",
  expired: "expired",
  session_lost: "lost",
  drained: "left",
  ended_by_operator: "ended",
};

const order = new Intl.Collator("en", { numeric: true });

onChange(({ nodes: changed, nodesGone }) => {
  for (const name of nodesGone) {
    rows.get(name)?.remove();
    rows.delete(name);
  }
  let added = false;
  for (const data of changed) {
    if (rows.has(data.node)) continue;
    const row = clone("node-row");
    showNode($(".node", row), data.node);
    rows.set(data.node, row);
    added = true;
  }
  if (added) list.append(...[...rows.keys()].sort(order.compare).map((name) => rows.get(name)));
  document.getElementById("nodes-empty").hidden = nodes.size > 0;
  setText(document.getElementById("nodes-count"), summary.generation ? `generation ${summary.generation}` : "");
});

onTick(() => {
  const now = serverNow();
  const members = [...nodes.values()].filter((data) => isAlive(data, now) && !data.draining && !data.ending);
  const fair = members.length ? symbols.size / members.length : 0;
  for (const [name, row] of rows) {
    const data = nodes.get(name);
    const alive = isAlive(data, now);
    const state = !alive ? ENDED[data.end_reason] ?? "expired" : data.ending ? "leaving" : data.draining ? "draining" : "active";
    setText($(".life", row), data.incarnation.slice(0, 8));
    $(".life", row).title = `Incarnation ${data.incarnation}, since ${data.registered_at}`;
    setData(row, "state", !alive ? "ended" : state);
    setText($(".badge", row), !alive && data.draining ? `${state}, drained` : state);
    left($(".left", row), alive ? Date.parse(data.expires_at) - now : 0, data.ttl_ms, "–");
    const share = alive && !data.draining && !data.ending ? ` of ${fair.toFixed(fair % 1 ? 1 : 0)}` : "";
    setText($(".held", row), `${data.held}${share}`);
    $(".held", row).title = `Holds ${counted(data.held, "symbol")}` + (share ? `; its fair share is ${fair.toFixed(1)}` : "");
    drain($(".drain", row), data);
  }
});

function drain(button, data) {
  if (!button) return;
  button.dataset.node = data.node;
  button.dataset.held = data.held;
  button.dataset.draining = String(data.draining);
  setText(button, data.draining ? "Undrain" : "Drain");
  const label = `${data.draining ? "Undrain" : "Drain"} ${data.node}`;
  if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
}
