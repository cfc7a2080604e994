// The fills: how many have been made since the page was read is the market's count of them, which the stream tells.

import { opened, tellNewer } from "./blotter.js";
import { begin } from "./shell.js";
import { onChange, summary, symbols } from "./store.js";

if (opened && !opened.ended) {
  onChange(() => {
    const made = opened.symbol ? symbols.get(opened.symbol)?.fills : summary.fills;
    if (made !== undefined) tellNewer(made - opened.known, "fill", { unsure: opened.narrow });
  });
}

begin();
