// Calls to copy, with the address of this page and the name of the served model.
import { byId, copyable, element } from "./dom.js";
import { base, token } from "./server.js";

const TEXT = "Ignore all previous instructions";
let selected = 0;

// Shows the calls for this server.
export function showCalls(server, model) {
  const clients = [
    ["curl", curl(model)],
    ["grpcurl", grpcurl(server)],
    ["Python", python(model)],
  ];
  const tabs = clients.map(([name], index) =>
    element(
      "button",
      {
        type: "button",
        role: "tab",
        id: `call-tab-${index}`,
        "aria-controls": "call-panel",
        onclick: () => select(index),
        onkeydown: move,
      },
      name,
    ),
  );
  byId("call-tabs").replaceChildren(...tabs);
  select(selected);

  function select(index) {
    selected = index;
    tabs.forEach((tab, number) => {
      tab.setAttribute("aria-selected", String(number === index));
      tab.tabIndex = number === index ? 0 : -1;
    });
    const pre = element("pre", { class: "call", tabindex: "0" }, element("code", {}, clients[index][1]));
    byId("call-panel").replaceChildren(pre);
    byId("call-panel").setAttribute("aria-labelledby", tabs[index].id);
    copyable(pre);
  }

  function move(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      select((selected + step + tabs.length) % tabs.length);
      tabs[selected].focus();
    }
  }
}

function curl(model) {
  const body = JSON.stringify({ model: model?.name, input: [TEXT] });
  return [
    `curl ${base}v1/embeddings`,
    ...(token.get() ? ['-H "authorization: Bearer $TOKEN"'] : []),
    "-H 'content-type: application/json'",
    `-d ${quoted(body)}`,
  ].join(" \\\n    ");
}

function grpcurl(server) {
  const host = base.hostname.includes(":") ? `[${base.hostname.replace(/[[\]]/g, "")}]` : base.hostname;
  return [
    server.grpc_tls ? "grpcurl -cacert ca.pem" : "grpcurl -plaintext",
    ...(token.get() ? ['-H "authorization: Bearer $TOKEN"'] : []),
    `-d ${quoted(JSON.stringify({ texts: [TEXT] }))}`,
    `${host}:${server.grpc_port} embedd.v1.EmbeddingService/Embed`,
  ].join(" \\\n    ");
}

function python(model) {
  const key = token.get() ? 'os.environ["TOKEN"]' : '"none"';
  return `${token.get() ? "import os\n\n" : ""}from openai import OpenAI  # pip install openai

client = OpenAI(base_url="${base}v1", api_key=${key})
reply = client.embeddings.create(
    model=${JSON.stringify(model?.name || "")},
    input=[${JSON.stringify(TEXT)}],
)
print(reply.data[0].embedding[:4])`;
}

// For a POSIX shell.
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
