// The live page: first painted with the state it came with, then kept by the stream.

import { begin } from "./shell.js";
import "./feed.js";
import "./nodes.js";
import "./symbols.js";

begin();
