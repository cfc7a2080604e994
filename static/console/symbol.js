// The page of one symbol: painted with what it came with, kept by the stream, and read again where the stream has no more to tell.

import { begin } from "./shell.js";
import "./symbol_face.js";
import "./symbol_book.js";
import "./symbol_chart.js";
import "./symbol_story.js";
import "./ticket.js";

begin();
