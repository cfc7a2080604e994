// Decimals arrive as strings and are shown as strings: nothing here calculates with money.

/** "1234567.50" as ["1,234,567", ".50"]. */
export function parts(decimal) {
  const [whole, fraction] = decimal.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",").replace("-", "−");
  return [grouped, fraction === undefined ? "" : `.${fraction}`];
}

export function plain(decimal) {
  return decimal === null || decimal === undefined ? "–" : parts(decimal).join("");
}

/** -1, 0 or 1, read from the text. */
export function sign(decimal) {
  if (!decimal || !/[1-9]/.test(decimal)) return 0;
  return decimal.startsWith("-") ? -1 : 1;
}

/** With its sign, so that colour is never the only one to tell. */
export function signed(decimal) {
  if (decimal === null || decimal === undefined) return "–";
  return (sign(decimal) > 0 ? "+" : "") + plain(sign(decimal) === 0 ? decimal.replace("-", "") : decimal);
}

/** Compare two decimals of the same number of places, exactly. */
export function compare(a, b) {
  const [x, y] = [a, b].map((text) => BigInt(text.replace(".", "")));
  return x < y ? -1 : x > y ? 1 : 0;
}

export function whole(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

export function counted(number, word) {
  return `${whole(number)} ${word}${number === 1 ? "" : "s"}`;
}

export function seconds(ms) {
  return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
}

/** An age that is read at a glance: "4 s", "3 min", "2 h". */
export function age(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 100) return `${s} s`;
  return s < 6000 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}
