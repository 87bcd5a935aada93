"""OpenAI's client for JavaScript, if this machine has node and npm."""

import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading

from clients import refusals
from clients.suite import LINES_TEXTS, MODEL, TEXTS, Client, NotTested, at_servers, expect, same_bits

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "javascript")
INSTALL_SECONDS = 60
# What the client requires.
MIN_NODE = 20
# npm's codes for network failures.
UNREACHABLE = ("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ENOTFOUND", "ETIMEDOUT")
RUN_SECONDS = 30


def locked_version():
    with open(os.path.join(FOLDER, "package-lock.json"), encoding="utf-8") as file:
        return json.load(file)["packages"]["node_modules/openai"]["version"]


CLIENT = Client(
    "openai (JavaScript)",
    locked_version(),
    """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: "http://localhost:9090/v1", apiKey: "none" });
const reply = await client.embeddings.create({ model: "all-mpnet-base-v2", input: ["hello", "naïve"] });
""",
    language="js",
)
CLIENTS = [CLIENT]


@functools.cache
def installed():
    """A folder with the client, below the folder of this run."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise NotTested("node or npm is missing")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=RUN_SECONDS).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < MIN_NODE:
        raise NotTested(f"node {version} is older than {MIN_NODE}")
    folder = tempfile.mkdtemp(prefix="embedd-javascript-")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(FOLDER, name), folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        output = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotTested("npm cannot reach its registry") from None
    if any(f"npm error code {code}" in output.stderr for code in UNREACHABLE):
        raise NotTested("npm cannot reach its registry")
    expect(output.returncode == 0, f"npm ci: {output.stderr[-500:]}")
    return folder


def node(script, **values):
    """Runs a module that has `values` and prints JSON."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    path = os.path.join(installed(), "script.mjs")
    with open(path, "w", encoding="utf-8") as file:
        file.write(script.replace("\n", "\n" + constants, 1))
    output = subprocess.run(["node", path], cwd=installed(), capture_output=True, text=True, timeout=RUN_SECONDS)
    expect(output.returncode == 0, output.stderr[-1000:])
    return json.loads(output.stdout)


# A statement of its own, because imports come first.
IMPORT = 'import OpenAI from "openai";\n'
CREATE = """
const client = new OpenAI({ baseURL: url + "/v1", apiKey: key, ...options });
try {
  const reply = await client.embeddings.create({ model, input, ...parameters });
  console.log(JSON.stringify({ vectors: reply.data.map((item) => Array.from(item.embedding)) }));
} catch (error) {
  const { status, code, param } = error;
  console.log(JSON.stringify({ kind: error.constructor.name, status, code, param }));
}
"""


def create(server, texts, parameters=None, key=None, **options):
    values = {"url": server.url, "key": key or server.token or "none", "model": MODEL, "input": texts}
    return node(IMPORT + CREATE, **values, parameters=parameters or {}, options=options)


@CLIENT.check("the lines above")
def run_lines(servers):
    print_vectors = "\nconsole.log(JSON.stringify(reply.data.map((item) => item.embedding)));\n"
    same_bits(node(at_servers(CLIENT.lines, servers) + print_vectors), servers.open.truth(LINES_TEXTS))


@CLIENT.check("embeddings.create, base64 by default")
def base64_is_the_default(servers):
    same_bits(create(servers.open, TEXTS)["vectors"], servers.open.truth(TEXTS))


@CLIENT.check('embeddings.create({encoding_format: "float"})')
def floats(servers):
    same_bits(create(servers.open, TEXTS, {"encoding_format": "float"})["vectors"], servers.open.truth(TEXTS))


@CLIENT.check("embeddings.create({dimensions: 7})")
def dimensions(servers):
    same_bits(create(servers.open, TEXTS, {"dimensions": 7})["vectors"], servers.open.truth(TEXTS, dimensions=7))


@CLIENT.check("embeddings.create, 2048 inputs")
def most_inputs(servers):
    texts = [f"text {number % 100}" for number in range(2048)]
    truth = servers.open.truth(texts[:100])
    same_bits(create(servers.open, texts)["vectors"], truth[[number % 100 for number in range(2048)]])


@CLIENT.check("embeddings.create with half an emoji", "BadRequestError, 400, `input[1]`")
def half_an_emoji(servers):
    found = create(servers.open, ["whole", "cut \ud83d"])
    expect(found == {"kind": "BadRequestError", "status": 400, "code": None, "param": "input[1]"}, str(found))


@CLIENT.check("embeddings.create with a wrong key, over TLS", "AuthenticationError, 401, `invalid_api_key`")
def wrong_key(servers):
    found = create(servers.secured, "a", key="wrong")
    expect(
        found == {"kind": "AuthenticationError", "status": 401, "code": "invalid_api_key", "param": None}, str(found)
    )


@CLIENT.check(
    "embeddings.create without capacity (503)", "InternalServerError without retries; by default, it is retried"
)
def retry_after_503(servers):
    with refusals.without_capacity(servers) as (server, finish):
        found = create(server, "a", maxRetries=0)
        expect((found["kind"], found["status"]) == ("InternalServerError", 503), str(found))
        timer = threading.Timer(0.5, finish)
        timer.start()
        same_bits(create(server, TEXTS)["vectors"], servers.open.truth(TEXTS))
        timer.join()
