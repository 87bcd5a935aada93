// The start of the page: reads the statistics every few seconds, and shows the model.
import { drawCharts } from "./charts.js";
import { showCalls } from "./calls.js";
import { byId, bytes, duration, facts, notice, number } from "./dom.js";
import { startPlayground, useServer } from "./playground.js";
import { call, token } from "./server.js";

const PAUSE = 5000;
let timer;
let shown;

async function refresh() {
  clearTimeout(timer);
  let again = PAUSE;
  const used = token.get();
  try {
    const { reply } = await call("page/stats");
    notice(byId("problem"), "");
    askForToken(false);
    show(reply);
    if (reply.server.phase !== "ready") {
      again = 1000;
    }
  } catch (error) {
    if (token.get() !== used) {
      // The visitor has entered another token, with which a later call reads the statistics.
      return;
    }
    if (error.status === 401) {
      askForToken(true, error.message);
      return;
    }
    phase("not connected", "bad");
    notice(byId("problem"), error.message || String(error));
  }
  if (!document.hidden) {
    timer = setTimeout(refresh, again);
  }
}

function show(stats) {
  const { server, model } = stats;
  phase(server.phase, server.phase === "ready" ? "good" : "bad");
  byId("about").textContent = `embedd ${server.version}, up ${duration(server.uptime_seconds)}`;
  byId("sample-seconds").textContent = stats.sample_seconds;
  byId("model-name").textContent = model ? model.name : "embedd";
  document.title = model ? `${model.name} – embedd` : "embedd";
  showModel(model, stats.now);
  drawCharts(byId("charts"), stats);
  const served = JSON.stringify([server.tei, server.grpc_port, server.grpc_tls, token.get() !== null, model]);
  if (served !== shown) {
    shown = served;
    useServer(server, model);
    showCalls(server, model);
  }
}

function phase(text, kind) {
  byId("phase").textContent = text;
  byId("phase").className = `phase ${kind}`;
}

function showModel(model, now) {
  if (!model) {
    facts(byId("facts"), [["Model", "is being loaded"]]);
    return;
  }
  const { accuracy } = model;
  facts(byId("facts"), [
    ["Revision", short(model.revision), `SHA-256 of the source's weights: ${model.revision}`],
    ["Bundle", short(model.fingerprint), `Fingerprint: ${model.fingerprint}`],
    ["Engine", model.engine],
    ["Device", model.device],
    ["Instruction set", model.instruction_set],
    ["Quantization", model.quantization],
    [
      `Cosine to ${accuracy ? accuracy.reference : "PyTorch"}`,
      accuracy ? `${accuracy.min_cosine.toFixed(5)} min, ${accuracy.mean_cosine.toFixed(5)} mean` : "not measured",
      accuracy ? `Over ${accuracy.texts} texts at conversion; every text must reach ${accuracy.threshold}` : undefined,
    ],
    ["Dimension", number(model.dimension)],
    ["Pooling", model.pooling],
    ["Tokens per text", number(model.max_tokens)],
    ["Texts per request", number(model.max_texts)],
    ["Text size", bytes(model.max_text_bytes)],
    ["Sessions", `${now.sessions} × ${now.threads_per_session} thread${now.threads_per_session === 1 ? "" : "s"}`],
    ["Queue limit", `${number(now.queue_limit_texts)} texts`],
    [
      "Cache",
      now.cache_limit_bytes
        ? `${number(now.cache_entries)} texts, ${bytes(now.cache_bytes)} of ${bytes(now.cache_limit_bytes)}`
        : "off",
    ],
    ["Since the start", `${number(now.texts)} texts in ${number(now.requests)} requests`],
    ["ONNX Runtime", model.onnxruntime_version],
  ]);
}

function short(hash) {
  return hash.slice(0, 12);
}

function askForToken(isNeeded, message) {
  const wasHidden = byId("token-form").hidden;
  byId("token-form").hidden = !isNeeded;
  if (isNeeded) {
    phase("token required", "bad");
    notice(byId("problem"), token.get() ? message : "");
    token.clear();
    if (wasHidden) {
      byId("token").focus();
    }
  }
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(byId("token").value.trim());
  byId("token").value = "";
  refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    refresh();
  }
});
startPlayground();
refresh();
