// The socket: connects, acknowledges, resumes where it was, and says truthfully how fresh the page is.

import { tell } from "./clock.js";

const FRESH_MS = 5000; // the server reads every second and sends at least a beat every three
const SILENT_MS = 10000; // no beat for so long: the connection is dead, whatever the browser believes
const BACKOFF_MS = 300;
const BACKOFF_MAX_MS = 5000;
const CHECK_MS = 500;
const SIGNED_OUT = 4401;
const UNAVAILABLE = 4503;

export class Stream {
  #socket = null;
  #cursor = null;
  #pause = BACKOFF_MS;
  #retry = null;
  #heardAt = 0; // performance.now() of the last message
  #trueAt = performance.now(); // ... of the last read of the database that the page shows
  #database = true;
  #why = "";

  constructor({ onMessage, onStatus }) {
    this.onMessage = onMessage;
    this.onStatus = onStatus;
    setInterval(() => this.#check(), CHECK_MS);
    document.addEventListener("visibilitychange", () => document.hidden || this.#soon());
    window.addEventListener("online", () => this.#soon());
    window.addEventListener("pageshow", () => this.#soon());
    this.#connect();
  }

  #connect() {
    clearTimeout(this.#retry);
    const address = new URL("/ws/stream/", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.#socket = socket;
    this.#heardAt = performance.now();
    socket.onopen = () => socket.send(JSON.stringify({ resume: this.#cursor }));
    socket.onmessage = (event) => socket === this.#socket && this.#take(socket, JSON.parse(event.data));
    socket.onclose = (event) => socket === this.#socket && this.#lost(event.code);
  }

  #take(socket, message) {
    socket.send(JSON.stringify({ ack: message.seq }));
    this.#pause = BACKOFF_MS;
    this.#heardAt = performance.now();
    this.#trueAt = this.#heardAt - Math.max(0, message.age_ms);
    this.#database = message.database;
    this.#why = message.database ? "" : "database unreachable";
    tell(message.now, message.age_ms);
    const resumed = this.#cursor !== null;
    this.#cursor = message.cursor;
    this.#check(); // first: what counts down does so only while it is fresh
    this.onMessage(message, resumed);
  }

  async #lost(code) {
    this.#socket = null;
    this.#why = code === UNAVAILABLE ? "database unreachable" : "connection lost";
    this.#check();
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), this.#pause * (0.5 + Math.random() / 2));
    this.#pause = Math.min(2 * this.#pause, BACKOFF_MAX_MS);
    if (code === SIGNED_OUT) return location.reload();
    // A refused handshake tells the page nothing, so ask why.
    try {
      const answer = await fetch("/session/", { headers: { accept: "application/json" } });
      if (answer.status === 401) return location.reload();
      if (!this.#socket || this.#socket.readyState !== WebSocket.OPEN) {
        this.#why = answer.status === 503 ? "database unreachable" : "connection lost";
      }
    } catch {
      this.#why = "server unreachable";
    }
    return this.#check();
  }

  #soon() {
    if (this.#socket === null) {
      this.#pause = BACKOFF_MS;
      this.#connect();
    } else {
      this.#check();
    }
  }

  #check() {
    const now = performance.now();
    const open = this.#socket !== null && this.#socket.readyState === WebSocket.OPEN;
    if (this.#socket !== null && now - this.#heardAt > SILENT_MS) {
      const dead = this.#socket;
      this.#socket = null;
      dead.close();
      this.#lost(0);
      return;
    }
    const ageMs = now - this.#trueAt;
    const fresh = ageMs < FRESH_MS && this.#database;
    const state = open && this.#cursor !== null ? (fresh ? "live" : "stale") : "reconnecting";
    this.onStatus({ state, ageMs, why: state === "live" ? "" : this.#why || "no news from the server" });
  }
}
