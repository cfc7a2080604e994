// The orders: asks how many have come since, when the stream tells of orders, and cancels those in the book.

import { post } from "./actions.js";
import { opened, tellNewer } from "./blotter.js";
import { $, setData, setText, toast } from "./dom.js";
import { plain } from "./format.js";
import { begin } from "./shell.js";
import { onTick, page, summary } from "./store.js";
import "./ticket.js";

const EVERY_MS = 2000; // at most: one small question for a page that somebody looks at
const WAIT_MS = 10000;
let asked = Date.now();
let told = null; // the summary's count of orders when we asked last; the first time we ask in any case
let settled = !opened || opened.ended;
let asking = false;

async function ask() {
  asking = true;
  asked = Date.now();
  told = summary.orders;
  try {
    const answer = await fetch(opened.address, {
      headers: { accept: "application/json" },
      signal: AbortSignal.timeout(WAIT_MS),
    });
    if (answer.ok && !answer.redirected) {
      const { newer, is_all: isAll } = await answer.json();
      tellNewer(newer, "order", { more: !isAll });
      settled = !isAll; // many enough: nobody counts on
    }
  } catch {
    // the stream says whether the server is away; the next change asks again
  } finally {
    asking = false;
  }
}

const isDue = () => !settled && !asking && !document.hidden && page.fresh && Date.now() - asked >= EVERY_MS;
onTick(() => isDue() && told !== summary.orders && ask());
document.addEventListener("order-sent", () => settled || asking || ask());

async function cancel(form) {
  const row = form.closest("[data-order]");
  const button = $("button", form);
  button.disabled = true;
  try {
    const [order] = await post(form.getAttribute("action"), { client_order_id: row.dataset.order });
    setData(row, "status", order.status);
    setText($(".told strong", row), order.word);
    setText($(".told .hint", row), "what was left in the book");
    setText($(".f-filled", row), plain(order.filled_quantity));
    form.remove();
    toast(`Order ${order.client_order_id} cancelled`);
  } catch (error) {
    button.disabled = false;
    toast(`${row.dataset.order}: ${error.message}`, "bad");
  }
}

document.getElementById("orders")?.addEventListener("submit", (event) => {
  event.preventDefault();
  cancel(event.target);
});

begin();
