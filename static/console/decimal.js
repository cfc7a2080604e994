// Sums of decimals that have the same number of places: exact, from text to text.

/** "1.20" and "-0.50" to "0.70". */
export function added(a, b) {
  const places = (a.split(".")[1] ?? "").length;
  const total = BigInt(a.replace(".", "")) + BigInt(b.replace(".", ""));
  const digits = String(total < 0n ? -total : total).padStart(places + 1, "0");
  const text = places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits;
  return total < 0n ? `-${text}` : text;
}
