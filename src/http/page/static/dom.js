// Elements of the page.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

// An element with attributes and children. Texts are never parsed as HTML.
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      node.addEventListener(name.slice(2), value);
    } else if (value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

// Shows a message in an element, or hides the element if there is none.
export function notice(node, message) {
  node.textContent = message || "";
  node.hidden = !message;
}

// A list of names and values.
export function facts(list, pairs) {
  const rows = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  list.replaceChildren(
    ...rows.map(([name, value, title]) =>
      element("div", { title }, element("dt", {}, name), element("dd", {}, value)),
    ),
  );
}

// Adds a button that copies the text of an element.
export function copyable(pre) {
  const button = element("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copy(pre)) ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  const wrapper = element("div", { class: "copyable" });
  pre.replaceWith(wrapper);
  wrapper.append(pre, button);
  return wrapper;
}

// Browsers allow pages to write to the clipboard only with TLS or on localhost; elsewhere, the text is selected.
async function copy(pre) {
  try {
    await navigator.clipboard.writeText(pre.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(pre);
    return false;
  }
}

// A number with up to three significant digits, or all of its integer digits.
export function number(value) {
  if (value === null || value === undefined) {
    return "–";
  }
  const digits = value >= 100 || Number.isInteger(value) ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits });
}

export function bytes(value) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value)} ${units[unit]}`;
}

export function duration(seconds) {
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [Math.floor(seconds) % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  const shown = first < 0 ? [[0, "s"]] : parts.slice(first, first + 2);
  return shown.map(([value, unit]) => `${value} ${unit}`).join(" ");
}
