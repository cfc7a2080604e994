// Small helpers: touch the document only where something changed.

const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

export const $ = (selector, root = document) => root.querySelector(selector);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setData(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

export function setVar(element, name, value) {
  if (element.style.getPropertyValue(name) !== value) element.style.setProperty(name, value);
}

/** A short tint that says: this has just changed. */
export function flash(element, direction = 0) {
  if (calm.matches || document.hidden) return;
  const tint = direction > 0 ? "--flash-up" : direction < 0 ? "--flash-down" : "--flash";
  const colour = getComputedStyle(document.documentElement).getPropertyValue(tint);
  element.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], { duration: 700, easing: "ease-out" });
}

export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

const COLOURS = 8;
/** Which of the palette's colours a node has: by its number if its name ends in one, so that neighbours differ. */
export function colourOf(name) {
  const number = /(\d+)$/.exec(name);
  if (number) return String((Number(number[1]) - 1 + COLOURS) % COLOURS);
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return String(hash % COLOURS);
}

export function showNode(element, name) {
  setText($(".name", element), name ?? "none");
  setData(element, "colour", name ? colourOf(name) : "none");
}

const toasts = document.getElementById("toasts");
const TOAST_MS = 6000;
const TOASTS_MAX = 5;
/** Say it for a while. What went wrong ("bad") stays until somebody has taken note: it may be what could not be stopped. */
export function toast(text, kind = "") {
  const item = document.createElement("p");
  item.className = `toast ${kind}`;
  item.append(text);
  if (kind === "bad") {
    const dismiss = document.createElement("button");
    dismiss.type = "button";
    dismiss.className = "button";
    dismiss.textContent = "Dismiss";
    item.setAttribute("role", "alert");
    dismiss.setAttribute("aria-label", `Dismiss: ${text}`);
    dismiss.addEventListener("click", () => item.remove());
    item.append(" ", dismiss);
  } else {
    setTimeout(() => item.remove(), TOAST_MS);
  }
  toasts.append(item);
  if (toasts.children.length > TOASTS_MAX) toasts.querySelector(".toast:not(.bad)")?.remove();
}
