// The description of the APIs: examples with this server's own address, and buttons to copy them.
import { copyable } from "./dom.js";

const address = new URL(".", location.href).href.replace(/\/$/, "");
for (const span of document.querySelectorAll(".address")) {
  span.textContent = address;
}
for (const pre of document.querySelectorAll("pre.call")) {
  copyable(pre);
}
