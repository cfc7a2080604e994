// Times and spans in words.

const sameDay = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "2-digit", day: "2-digit" });
const weekday = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });
const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** The time of day, to the second; with the day where that is not the day of `now`. */
export function clock(at, now) {
  const day = now === undefined || sameDay.format(at) === sameDay.format(now) ? "" : `${weekday.format(at)} `;
  return day + time.format(at);
}

/** The same to the millisecond. */
export function moment(at, now) {
  return `${clock(at, now)}.${String(Math.floor(((at % 1000) + 1000) % 1000)).padStart(3, "0")}`;
}

/** A span as people say it, and as `explain` does: "41 ms", "3.2 s", "12 min 3 s", "5 h 12 min", "3 d 4 h". */
export function duration(ms) {
  if (ms < 999.5) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const NAMED_MAX = 4;
export function listed(names) {
  const shown = names.slice(0, NAMED_MAX).join(", ");
  return names.length > NAMED_MAX ? `${shown} and ${names.length - NAMED_MAX} more` : shown;
}
