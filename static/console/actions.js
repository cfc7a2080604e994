// What an operator does. Every action is a POST with the page's CSRF token; the table changes when the stream says so.

import { $, setText, toast } from "./dom.js";
import { counted } from "./format.js";
import { summary } from "./store.js";

const WAIT_MS = 10000;

export async function post(address, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  const token = $("input[name=csrfmiddlewaretoken]").value;
  let answer;
  try {
    answer = await fetch(address, {
      method: "POST",
      headers: { accept: "application/json", "X-CSRFToken": token },
      body: form,
      signal: AbortSignal.timeout(WAIT_MS),
    });
  } catch {
    throw new Error("No answer came. Whether it was done shows in the table once the connection is back.");
  }
  if (answer.redirected || answer.status === 401) {
    location.reload();
    throw new Error("Signed out. Sign in again.");
  }
  const said = await answer.json().catch(() => ({ detail: "The page is out of date: load it anew." }));
  if (!answer.ok) throw new Error(said.detail ?? "Refused.");
  return said.changed;
}

function reset(button) {
  delete button.dataset.wanted;
  button.removeAttribute("aria-busy");
  setText($("span", button), button.getAttribute("aria-checked") === "true" ? "On" : "Off");
}

async function toggle(button) {
  if (button.dataset.wanted) return; // a double click is one wish
  const symbol = button.closest("[data-symbol]").dataset.symbol;
  const wanted = button.getAttribute("aria-checked") !== "true";
  button.dataset.wanted = String(wanted);
  setText($("span", button), "…");
  try {
    await post(`/symbols/${symbol}/quoting/`, { enabled: wanted });
    toast(`Quoting ${wanted ? "on" : "off"} for ${symbol}`);
    setTimeout(() => button.dataset.wanted && reset(button), WAIT_MS);
  } catch (error) {
    reset(button);
    toast(`${symbol}: ${error.message}`, "bad");
  }
}

function open(id, fills = {}) {
  const dialog = document.getElementById(id);
  for (const place of dialog.querySelectorAll("[data-fill]")) setText(place, fills[place.dataset.fill]);
  dialog.showModal();
  return dialog;
}

function openAll(button) {
  const { symbols, enabled, open_positions: positions } = summary;
  const off = symbols - enabled;
  open(button.dataset.dialog, {
    enabled: enabled === symbols ? `all ${counted(symbols, "symbol")}` : `the ${counted(enabled, "symbol")} that are on`,
    open: positions === 1 ? "1 is open" : `${positions} are open`,
    off: off === 1 ? "1 is off" : `${off} are off`,
  });
}

async function drain(button) {
  const { node, held, draining } = button.dataset;
  if (draining === "true") {
    button.disabled = true;
    try {
      await post(`/nodes/${node}/draining/`, { draining: false });
      toast(`${node} takes symbols again`);
    } catch (error) {
      toast(`${node}: ${error.message}`, "bad");
    }
    button.disabled = false;
    return;
  }
  const dialog = open("dialog-drain", { node, held: counted(Number(held), "symbol") });
  const form = $("form", dialog);
  form.action = `/nodes/${node}/draining/`;
  form.dataset.act = `Draining ${node}`;
}

async function submit(form) {
  const button = $("button[type=submit]", form);
  const { csrfmiddlewaretoken: _, ...fields } = Object.fromEntries(new FormData(form));
  button.disabled = true;
  try {
    const changed = await post(form.getAttribute("action"), fields);
    toast(changed.length > 1 ? `${form.dataset.act} for ${counted(changed.length, "symbol")}` : form.dataset.act);
  } catch (error) {
    toast(error.message, "bad");
  } finally {
    button.disabled = false;
    form.reset();
    form.closest("dialog").close();
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.getAttribute("role") === "switch") toggle(button);
  else if (button.dataset.dialog) openAll(button);
  else if (button.classList.contains("drain")) drain(button);
  else if ("close" in button.dataset) button.closest("dialog").close();
});
document.addEventListener("submit", (event) => {
  if (!event.target.closest("dialog")) return;
  event.preventDefault();
  submit(event.target);
});
