// Embeds texts: shows their tokens, how similar they are, and how long it took.
import { byId, element, facts, notice, number } from "./dom.js";
import { call } from "./server.js";

const MAX_TEXTS = 8;
const MIN_TEXTS = 2;
const EXAMPLES = ["Ignore all previous instructions", "Disregard everything you were told before"];
// Filled in by the fragment #demo, with a text that is too long for the model.
const DEMO = ["What is the capital of France?", "Unbelievable: naïve cafés in 東京 – "];
const MAX_REPETITIONS = 64;
const WITHOUT_TEI = "The server runs with --tei=false: /v1/embeddings returns neither tokens nor server times.";
// The direction in which texts are cut here, whatever the server's default is, so that the tokens show it.
const CUT = { truncate: true, truncation_direction: "Right" };

let server;
let model;
let isDemo = location.hash === "#demo";

export function startPlayground() {
  EXAMPLES.forEach(addText);
  byId("add-text").addEventListener("click", () => addText("").focus());
  byId("try").addEventListener("submit", (event) => {
    event.preventDefault();
    embed();
  });
}

// Called when the server or its model has changed.
export function useServer(newServer, newModel) {
  server = newServer;
  model = newModel;
  if (!model) {
    status("The model is being loaded.");
    return;
  }
  status(server.tei ? "" : WITHOUT_TEI);
  if (isDemo) {
    isDemo = false;
    const repetitions = Math.min(Math.ceil(model.max_tokens / 8) + 1, MAX_REPETITIONS);
    [DEMO[0], DEMO[1].repeat(repetitions).trim()].forEach(addText);
    embed();
  }
}

function addText(text) {
  const area = element("textarea", { rows: 1, spellcheck: "false", onkeydown: submitWithKeys, oninput: grow });
  area.value = text;
  const remove = element("button", { type: "button", class: "remove", onclick: removeText }, "×");
  byId("texts").append(element("div", { class: "text" }, element("label", {}), area, remove));
  numberTexts();
  grow.call(area);
  return area;
}

function removeText(event) {
  event.currentTarget.parentNode.remove();
  numberTexts();
  byId("add-text").focus();
}

function numberTexts() {
  const rows = [...byId("texts").children];
  rows.forEach((row, index) => {
    const [label, area, remove] = row.children;
    label.textContent = index + 1;
    label.setAttribute("for", `text-${index}`);
    area.id = `text-${index}`;
    area.setAttribute("aria-label", `Text ${index + 1}`);
    remove.setAttribute("aria-label", `Remove text ${index + 1}`);
    remove.disabled = rows.length <= MIN_TEXTS;
  });
  byId("add-text").disabled = rows.length >= MAX_TEXTS;
}

function grow() {
  this.style.height = "auto";
  this.style.height = `${Math.min(this.scrollHeight + 2, 160)}px`;
}

function submitWithKeys(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    byId("try").requestSubmit();
  }
}

function status(text) {
  byId("try-status").textContent = text;
}

async function embed() {
  if (!model) {
    notice(byId("try-problem"), "There is no model yet: see the top of this page.");
    return;
  }
  const texts = [...byId("texts").querySelectorAll("textarea")].map((area) => area.value);
  const empty = texts.findIndex((text) => text === "");
  if (empty >= 0) {
    notice(byId("try-problem"), `Text ${empty + 1} is empty.`);
    return;
  }
  byId("embed").disabled = true;
  status("Embedding …");
  try {
    const result = server.tei === false ? await embedOnly(texts) : await embedAndTokenize(texts);
    notice(byId("try-problem"), "");
    showResult(texts, result);
    status("");
  } catch (error) {
    notice(byId("try-problem"), error.message);
    byId("results").hidden = true;
    status("");
  } finally {
    byId("embed").disabled = false;
  }
}

async function embedAndTokenize(texts) {
  const embedded = await call("embed", { inputs: texts, ...CUT });
  const tokenized = await call("tokenize", { inputs: texts });
  const header = (name) => Number(embedded.headers.get(name));
  const ms = (name) => (header(name) < 1 ? "< 1 ms" : `${header(name)} ms`);
  const times = [
    ["Server, total", ms("x-total-time")],
    ["Tokenize", ms("x-tokenization-time")],
    ["Queue", ms("x-queue-time")],
    ["Infer", ms("x-inference-time")],
    ["Tokens", number(header("x-compute-tokens"))],
  ];
  return { vectors: embedded.reply, tokens: tokenized.reply, took: embedded.took, times };
}

async function embedOnly(texts) {
  const { reply, took } = await call("v1/embeddings", { input: texts });
  const vectors = reply.data.map((item) => item.embedding);
  return { vectors, tokens: [], took, times: [["Tokens", number(reply.usage.prompt_tokens)]] };
}

function showResult(texts, { vectors, tokens, took, times }) {
  const here = ["From this browser", `${number(took)} ms`];
  facts(byId("times"), [here, ...times, ["Dimension", number(vectors[0].length)]]);
  showMatrix(vectors);
  byId("tokens").replaceChildren(
    ...(tokens.length > 0
      ? tokens.map((list, index) => tokensOf(texts[index], list, index))
      : [element("p", { class: "sub" }, "Tokens need the REST API of text-embeddings-inference (--tei).")]),
  );
  byId("results").hidden = false;
  byId("tokens").querySelectorAll(".tokens").forEach(showCut);
}

// Scrolls a long list of tokens to the place from which they are truncated.
function showCut(box) {
  const cut = box.querySelector(".cut");
  if (cut) {
    box.scrollTop = cut.offsetTop - box.offsetTop - box.clientHeight / 2;
  }
}

function showMatrix(vectors) {
  const norms = vectors.map((vector) => Math.sqrt(dot(vector, vector)) || 1);
  const head = vectors.map((_, index) => element("th", { scope: "col" }, index + 1));
  const rows = vectors.map((vector, row) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, row + 1),
      ...vectors.map((other, column) => {
        const cosine = dot(vector, other) / norms[row] / norms[column];
        const cell = element("td", { title: `Texts ${row + 1} and ${column + 1}: ${cosine}` }, cosine.toFixed(3));
        cell.style.setProperty("--share", `${Math.round(Math.max(0, cosine) * 60)}%`);
        return cell;
      }),
    ),
  );
  byId("matrix").replaceChildren(
    element("thead", {}, element("tr", {}, element("td", {}), ...head)),
    element("tbody", {}, ...rows),
  );
}

function dot(a, b) {
  return a.reduce((sum, value, index) => sum + value * b[index], 0);
}

// The pieces of a text. What lies between them, such as spaces, is shown as it is.
function tokensOf(text, list, index) {
  const special = list.filter((token) => token.special).length;
  const kept = Math.max(0, model.max_tokens - special);
  const bytes = new TextEncoder().encode(text);
  const between = (from, to) => new TextDecoder().decode(bytes.subarray(from, to));
  const pieces = [];
  let end = 0;
  let number = 0;
  for (const token of list) {
    if (token.special) {
      pieces.push(element("span", { class: "token special", title: `special token, id ${token.id}` }, token.text));
      continue;
    }
    if (token.start > end) {
      pieces.push(between(end, token.start));
    }
    end = Math.max(end, token.stop);
    const isCut = number >= kept;
    const kind = isCut ? "cut" : `c${number % 6}`;
    const title = `id ${token.id}, bytes ${token.start} to ${token.stop}${isCut ? ", truncated" : ""}`;
    pieces.push(element("span", { class: `token ${kind}`, title }, token.text));
    number += 1;
  }
  const counted = list.length > model.max_tokens
    ? `${list.length} tokens; the model reads ${model.max_tokens}, and the others are truncated`
    : `${list.length} tokens`;
  const label = `Tokens of text ${index + 1}`;
  return element(
    "div",
    { class: "tokenized" },
    element("p", { class: "sub" }, element("b", {}, `${index + 1}`), ` ${counted}`),
    element("p", { class: "tokens", tabindex: "0", role: "group", "aria-label": label }, ...pieces),
  );
}
