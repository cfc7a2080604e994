// Waits for the database, and loads the page anew when it is back.

const EVERY_MS = 1000;
const started = Date.now();
const words = document.getElementById("waiting");

async function look() {
  words.textContent = `Waiting for ${Math.round((Date.now() - started) / 1000)} s.`;
  try {
    const answer = await fetch("/readyz");
    if (answer.ok) location.reload();
  } catch {
    // the server itself is away: go on asking
  }
  setTimeout(look, EVERY_MS);
}
look();
