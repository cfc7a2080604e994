// The database's clock, by which leases and quotes end: the page's own may be off by any amount.

const WINDOW = 30; // newest readings; the one with the least delay is the best
const offsets = [];

/** `now` is the database's clock at its last read, `ageMs` how old that read was when the message was sent. */
export function tell(now, ageMs) {
  if (now === null || ageMs < 0) return;
  offsets.push(Date.parse(now) + ageMs - Date.now());
  if (offsets.length > WINDOW) offsets.shift();
}

export function serverNow() {
  return Date.now() + (offsets.length ? Math.max(...offsets) : 0);
}
