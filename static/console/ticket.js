// The order ticket. One ticket is one order: its id is made once and kept until an answer has come, also across a reload,
// so that neither a double click nor a second try can send it twice.

import { serverNow } from "./clock.js";
import { $, setData, setText } from "./dom.js";
import { plain } from "./format.js";
import { isQuoted, onChange, page, symbols } from "./store.js";

const form = document.getElementById("ticket-form");
const WAIT_MS = 10000;
const LOOK_MS = 500; // whether the quote shown is still live
const NUMBER = /^\d{1,15}(\.\d{1,18})?$/;
const BUSY = new Set(["sending", "unknown", "done"]);

/** 128 random bits. Not randomUUID, which a page from plain http on another host does not have. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `ui-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function start() {
  const fields = document.getElementById("ticket-fields");
  const result = document.getElementById("ticket-result");
  const send = document.getElementById("ticket-send");
  const anew = document.getElementById("ticket-anew");
  const input = (name) => form.elements[name];
  const isFixed = input("symbol").type === "hidden"; // the page is of one symbol
  // In this tab's session storage: the ticket of this page that was sent and not answered.
  const kept = `order-ticket:${isFixed ? input("symbol").value : ""}`;
  let sent = null; // the values of an order that was sent and not answered
  let priceIsTyped = input("price").value !== "";
  let grid = null; // {symbol, tick_size, lot_size} of the chosen symbol

  const read = () => ({
    client_order_id: input("client_order_id").value,
    symbol: input("symbol").value.trim().toUpperCase(),
    side: input("side").value,
    type: input("type").value,
    time_in_force: input("time_in_force").value,
    quantity: input("quantity").value.trim(),
    price: input("type").value === "market" ? "" : input("price").value.trim(),
  });

  function setState(state) {
    setData(form, "state", state);
    fields.disabled = BUSY.has(state);
    // Both stay where they are: the second click of a double click must not land on another button than the first.
    send.disabled = state === "sending" || state === "done";
    anew.hidden = false;
    anew.disabled = state === "sending";
    setText(anew, { open: "Clear", unknown: "Leave it, new order" }[state] ?? "New order");
    label();
  }

  function label() {
    const { side } = read();
    setData(form, "side", side);
    const words = { sending: "Sending …", unknown: "Send again", done: "Sent" };
    setText(send, words[form.dataset.state] ?? `Send ${side} order`);
  }

  // The quote that the order would meet

  /** The symbol's quote, or while the page isn't live the last that it was told; null without one. */
  function quote() {
    const row = symbols.get(read().symbol);
    const isThere = row && (page.fresh ? isQuoted(row, serverNow()) : row.bid !== null || row.ask !== null);
    return isThere ? row : null;
  }

  function paintTouch() {
    const touch = document.getElementById("ticket-touch");
    const { symbol } = read();
    const row = quote();
    touch.hidden = !isFixed && !symbols.has(symbol);
    for (const button of touch.querySelectorAll("[data-touch]")) {
      const side = button.dataset.touch;
      const price = row?.[side] ?? null;
      button.disabled = price === null;
      setText($("strong", button), plain(price));
      setText($(".size", button), price === null ? "" : `× ${plain(row[`${side}_size`])}`);
    }
    const old = page.fresh ? "" : "As the stream told it last; it is not live now.";
    setText(document.getElementById("ticket-touch-said"), row || !symbols.has(symbol) ? old : "We quote nothing in it now.");
  }

  /** The price at which it would trade against us at once; a price that somebody typed stays. */
  function prefill() {
    if (priceIsTyped || BUSY.has(form.dataset.state)) return;
    const [{ side, type }, row] = [read(), quote()];
    input("price").value = (type === "limit" && row && row[side === "buy" ? "ask" : "bid"]) || "";
  }

  function summarise() {
    setText(document.getElementById("ticket-summary"), BUSY.has(form.dataset.state) ? "" : summary(read(), quote()));
  }

  /** Ask for the symbol's tick and lot, once. */
  async function look(symbol) {
    if (grid?.symbol === symbol) return;
    grid = { symbol };
    paintGrid();
    let found = null;
    try {
      const answer = await fetch(`/api/v1/symbols?limit=1&symbol=${encodeURIComponent(symbol)}`, {
        headers: { accept: "application/json" },
        signal: AbortSignal.timeout(WAIT_MS),
      });
      if (answer.ok) [found = null] = (await answer.json()).items;
    } catch {
      // they are a help, no more: the exchange judges the order
    }
    if (grid?.symbol !== symbol) return; // another one has been chosen meanwhile
    grid = found ?? { symbol }; // asked once, whatever came of it
    paintGrid();
  }

  function paintGrid() {
    setText(document.getElementById("ticket-tick"), grid?.tick_size ? `steps of ${plain(grid.tick_size)}` : "");
    setText(document.getElementById("ticket-lot"), grid?.lot_size ? `lots of ${plain(grid.lot_size)}` : "");
  }

  function changed() {
    const { type, symbol } = read();
    const isMarket = type === "market";
    input("price").disabled = isMarket;
    const times = input("time_in_force");
    times.options[0].disabled = isMarket; // GTC: a market order cannot wait in the book
    if (isMarket && times.value === "GTC") times.value = "IOC";
    if (symbols.has(symbol)) look(symbol);
    else if (grid) {
      grid = null;
      paintGrid();
    }
    paintTouch();
    label();
    summarise();
  }

  // Sending

  function remember(values) {
    sent = values;
    try {
      if (values) sessionStorage.setItem(kept, JSON.stringify(values));
      else sessionStorage.removeItem(kept);
    } catch {
      // no storage: then a reload forgets the ticket, and the id is still in the blotter
    }
  }

  function show(tone, text, more = "", fills = []) {
    result.hidden = false;
    setData(result, "tone", tone);
    setText($(".said", result), text);
    $("ul", result).replaceChildren(
      ...fills.map((fill) => {
        const item = document.createElement("li");
        item.textContent = `${plain(fill.quantity)} at ${plain(fill.price)} · ${fill.fill_id}`;
        return item;
      }),
    );
    const place = $(".more", result);
    place.textContent = more ? `${more} ` : "";
    const link = document.createElement("a");
    link.href = `/orders/?q=${encodeURIComponent(input("client_order_id").value)}`;
    link.textContent = "Look it up";
    if (tone === "none") return;
    place.append(link);
    result.focus();
  }

  function complain(errors = {}) {
    for (const place of form.querySelectorAll("[data-error]")) setText(place, errors[place.dataset.error] ?? "");
    for (const name of ["symbol", "quantity", "price", "time_in_force"]) {
      input(name).setAttribute("aria-invalid", String(name in errors));
    }
    const first = Object.keys(errors).find((name) => input(name)?.focus && !input(name).disabled);
    if (first) input(first).focus();
  }

  function unknown(why) {
    setState("unknown");
    show("warn", `${why} The order may have been taken, or not.`,
      "Send it again: it goes under the same id, and cannot be taken twice.");
  }

  function notSent(text) {
    // A try before this one may have got through: then nothing is known yet.
    if (form.dataset.uncertain === "true") return unknown(text);
    remember(null);
    setState("open");
    return show("none", text);
  }

  async function submit() {
    const values = sent ?? read();
    const wasUncertain = form.dataset.uncertain === "true";
    complain();
    result.hidden = true;
    setState("sending");
    remember(values);
    let answer;
    try {
      const body = new FormData();
      for (const [name, value] of Object.entries(values)) body.append(name, value);
      answer = await fetch(form.getAttribute("action"), {
        method: "POST",
        headers: { accept: "application/json", "X-CSRFToken": $("input[name=csrfmiddlewaretoken]", form).value },
        body,
        signal: AbortSignal.timeout(WAIT_MS),
      });
    } catch (error) {
      setData(form, "uncertain", "true");
      const late = error.name === "TimeoutError";
      return unknown(late ? `No answer came within ${WAIT_MS / 1000} s.` : "The connection broke before an answer came.");
    }
    if (answer.redirected || answer.status === 401) return notSent("Signed out: nothing was sent. Sign in again.");
    const said = await answer.json().catch(() => null);
    if (answer.status >= 500 || (answer.ok && !said?.order)) {
      setData(form, "uncertain", "true");
      return unknown(said?.detail ?? "The server could not answer.");
    }
    if (answer.status === 403) return notSent(said?.detail ?? "Nothing was sent: this page is out of date. Load it anew.");
    setData(form, "uncertain", "false");
    remember(null);
    document.dispatchEvent(new CustomEvent("order-sent"));
    if (answer.ok) {
      setState("done");
      const { status, fills } = said.order;
      const again = wasUncertain ? "It was taken once." : "";
      return show(status === "rejected" ? "bad" : status === "filled" ? "good" : "some", said.text, again, fills);
    }
    setState("open");
    if (said?.code === "duplicate_client_order_id") input("client_order_id").value = newId();
    show("none", "Nothing was sent.");
    return complain(said?.fields);
  }

  function begin() {
    remember(null);
    setData(form, "uncertain", "false");
    input("client_order_id").value = newId();
    input("quantity").value = ""; // so that Enter once too often sends nothing
    priceIsTyped = false;
    complain();
    result.hidden = true;
    setState("open");
    prefill();
    changed();
    input("quantity").focus();
  }

  function restore() {
    let values = null;
    try {
      values = JSON.parse(sessionStorage.getItem(kept));
    } catch {
      // no storage, or not ours
    }
    if (!values?.client_order_id) return;
    for (const [name, value] of Object.entries(values)) if (input(name)) input(name).value = value;
    sent = values;
    priceIsTyped = true;
    setData(form, "uncertain", "true");
    setState("unknown");
    show("warn", "This order was sent, and this page has not heard what came of it.",
      "Send it again: it goes under the same id, and cannot be taken twice.");
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (form.dataset.state === "open" || form.dataset.state === "unknown") submit();
  });
  anew.addEventListener("click", begin);
  form.addEventListener("input", (event) => {
    const { name } = event.target;
    if (name === "price") priceIsTyped = true;
    if (name === "symbol" || name === "type") priceIsTyped = false; // it was a price of another kind
    if (["symbol", "side", "type"].includes(name)) prefill();
    changed();
  });
  document.getElementById("ticket-touch").addEventListener("click", (event) => {
    const button = event.target.closest("[data-touch]");
    const price = button && quote()?.[button.dataset.touch];
    if (!price || input("price").disabled) return;
    input("price").value = price;
    priceIsTyped = true;
    changed();
  });
  onChange(({ symbols: rows, snapshot }) => {
    const { symbol } = read();
    if (!snapshot && !rows.some((row) => row.symbol === symbol)) return;
    if (input("price").value === "") prefill();
    changed();
  });
  setInterval(() => document.hidden || changed(), LOOK_MS);

  // Some browsers keep a form over a reload, with the id of an order that was answered: each ticket gets a new one.
  input("client_order_id").value = newId();
  setData(form, "uncertain", "false");
  setState("open");
  restore();
  changed();
}

/** One sentence or three: what sending this would do. */
function summary({ symbol, side, type, time_in_force: time, quantity, price }, row) {
  const isMarket = type === "market";
  if (!symbol || !NUMBER.test(quantity) || (!isMarket && !NUMBER.test(price))) return "";
  const verb = side === "buy" ? "Buys" : "Sells";
  const limit = isMarket ? "at the best prices there are" : `at ${plain(price)} or ${side === "buy" ? "less" : "more"}`;
  const remainder = {
    GTC: "What does not trade at once waits in the book until it trades or is cancelled.",
    IOC: "What cannot trade at once is cancelled.",
    FOK: "All of it trades at once, or none.",
  }[time];
  return `${verb} ${plain(quantity)} ${symbol} ${limit}. ${remainder} ${reach(side, isMarket, price, row)}`.trim();
}

function reach(side, isMarket, price, row) {
  if (!page.heard) return "";
  const [name, ours] = side === "buy" ? ["ask", row?.ask] : ["bid", row?.bid];
  if (!ours) return `We have no ${name} now.`;
  const against = `Our ${name} is ${plain(ours)} × ${plain(row[`${name}_size`])}`;
  if (isMarket) return `${against}.`;
  const [mine, theirs] = [exact(price), exact(ours)];
  const reaches = side === "buy" ? mine >= theirs : mine <= theirs;
  return reaches ? `${against}: this price reaches it.` : `${against}: this price does not reach it.`;
}

/** A decimal as a whole number of 10^-18, to compare exactly. */
function exact(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(18, "0"));
}

if (form) start();
