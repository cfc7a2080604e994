// What the symbol's page reads beside the stream: asked again when something happened, never more often than is said.

import { page } from "./store.js";

export const main = document.getElementById("main");
export const name = main.dataset.symbol;
export const first = JSON.parse(document.getElementById("symbol-first").textContent);

const LOOK_MS = 200;
const WAIT_MS = 10000;
const PAUSE_MS = 3000; // after an answer that did not come
const sources = [];

export class Source {
  #due;
  #asked = -Infinity; // performance.now()
  #readAt = -Infinity;
  #busy = false;
  #choice = 0;

  /** `take` is given each answer, `failed` why there was none, or "" once there is. `known`: the page came with a first one. */
  constructor(path, { atMostEveryMs, atLeastEveryMs, take, failed, query = () => "", known = false }) {
    Object.assign(this, { path, atMostEveryMs, atLeastEveryMs, take, failed, query });
    this.#due = !known;
    this.ever = known;
    sources.push(this);
  }

  /** Something has happened: what is shown is not the newest. */
  want() {
    this.#due = true;
  }

  /** Something else is to be shown: at once, and whatever is on its way is not it. */
  choose() {
    this.#choice += 1;
    this.#busy = false;
    this.#asked = -Infinity;
    this.ever = false;
    this.#due = true;
    this.look();
  }

  look() {
    const now = performance.now();
    if (this.#busy || document.hidden || !(page.fresh || !this.ever)) return;
    if (!this.#due && now - this.#readAt < this.atLeastEveryMs) return;
    if (now - this.#asked >= this.atMostEveryMs()) this.#ask(now);
  }

  async #ask(now) {
    const choice = this.#choice;
    this.#busy = true;
    this.#due = false;
    this.#asked = now;
    let why = "";
    try {
      const answer = await fetch(`${main.dataset.address}${this.path}/${this.query()}`, {
        headers: { accept: "application/json" },
        signal: AbortSignal.timeout(WAIT_MS),
      });
      if (answer.redirected || answer.status === 401) return location.reload();
      const said = await answer.json();
      if (choice !== this.#choice) return undefined;
      if (answer.ok) {
        this.ever = true;
        this.#readAt = performance.now();
        this.take(said);
      } else {
        why = said.detail ?? "Refused.";
      }
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof DOMException || error instanceof SyntaxError)) throw error;
      why = "The server does not answer.";
    } finally {
      if (choice === this.#choice) this.#busy = false;
    }
    if (choice !== this.#choice) return undefined;
    if (why) {
      this.#due = true;
      this.#asked = performance.now() + PAUSE_MS - this.atMostEveryMs();
    }
    return this.failed(why && `${why} This part is not the newest; it is asked for again.`);
  }
}

let fresh = false;
setInterval(() => {
  if (page.fresh && !fresh) for (const source of sources) source.want(); // whatever came in between was not told
  fresh = page.fresh;
  for (const source of sources) source.look();
}, LOOK_MS);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const source of sources) source.look();
});

/** A group of radio buttons: calls back with each choice, and returns how to ask what is chosen. */
export function choice(id, changed) {
  const group = document.getElementById(id);
  group.addEventListener("change", changed);
  return () => group.querySelector("input:checked").value;
}
