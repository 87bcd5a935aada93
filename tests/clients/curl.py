"""curl, with compression and HTTP/2."""

import gzip
import json
import os
import shutil
import subprocess
import tempfile

from clients.suite import ANY_VERSION, LINES_TEXTS, MODEL, TEXTS, Client, NotTested, at_servers, expect, same_bits

CLIENT = Client(
    "curl",
    ANY_VERSION,
    """
curl --silent --fail localhost:9090/v1/embeddings -H 'content-type: application/json' \\
    -d '{"model": "all-mpnet-base-v2", "input": ["hello", "naïve"]}'
""",
    language="sh",
)
CLIENTS = [CLIENT]
MANY = [f"text {number}" for number in range(300)]


def curl(*arguments):
    if not shutil.which("curl"):
        raise NotTested("curl is missing")
    command = ["curl", "--silent", "--show-error", "--max-time", "30", *arguments]
    output = subprocess.run(command, capture_output=True, timeout=60)
    expect(output.returncode == 0, output.stderr.decode())
    return output.stdout


def post(server, texts, *arguments, path="/v1/embeddings"):
    """The vectors, and what curl reports of the transfer."""
    body = json.dumps({"model": MODEL, "input": texts})
    with tempfile.TemporaryDirectory() as folder:
        reply = os.path.join(folder, "reply")
        options = ["-H", "content-type: application/json", "-o", reply, "-w", "%{json}", "-D", f"{reply}.headers"]
        data = [] if "--data-binary" in arguments else ["-d", body]
        report = json.loads(curl(server.url + path, *options, *data, *arguments))
        with open(reply, "rb") as file:
            content = json.load(file)
        with open(f"{reply}.headers", encoding="latin-1") as file:
            report["headers"] = file.read().lower()
    expect(report["http_code"] == 200, f"{report['http_code']}: {content}")
    return [item["embedding"] for item in content["data"]], report


@CLIENT.check("the lines above")
def run_lines(servers):
    if not shutil.which("curl"):
        raise NotTested("curl is missing")
    output = subprocess.run(["sh", "-c", at_servers(CLIENT.lines, servers)], capture_output=True, timeout=60)
    expect(output.returncode == 0, output.stderr.decode())
    vectors = [item["embedding"] for item in json.loads(output.stdout)["data"]]
    same_bits(vectors, servers.open.truth(LINES_TEXTS))


@CLIENT.check("/v1/embeddings --compressed, a reply of 64 KiB or more", "same bits, gzip")
def compressed_reply(servers):
    vectors, report = post(servers.open, MANY, "--compressed")
    expect("content-encoding: gzip" in report["headers"], report["headers"])
    same_bits(vectors, servers.open.truth(MANY))


@CLIENT.check("/v1/embeddings, a body in gzip")
def compressed_request(servers):
    with tempfile.NamedTemporaryFile() as file:
        file.write(gzip.compress(json.dumps({"model": MODEL, "input": TEXTS}).encode()))
        file.flush()
        vectors, _ = post(servers.open, TEXTS, "-H", "content-encoding: gzip", "--data-binary", f"@{file.name}")
    same_bits(vectors, servers.open.truth(TEXTS))


@CLIENT.check("/v1/embeddings --http2-prior-knowledge", "same bits, HTTP/2")
def http2(servers):
    if b"HTTP2" not in curl("--version"):
        raise NotTested("curl has no HTTP/2")
    vectors, report = post(servers.open, TEXTS, "--http2-prior-knowledge")
    expect(report["http_version"] == "2", f"HTTP/{report['http_version']}")
    same_bits(vectors, servers.open.truth(TEXTS))


@CLIENT.check("/v1/embeddings with a token, over TLS")
def token(servers):
    vectors, _ = post(servers.secured, TEXTS, "-H", f"authorization: Bearer {servers.secured.token}")
    same_bits(vectors, servers.secured.truth(TEXTS))


@CLIENT.check("/v1//embeddings and /embeddings")
def paths(servers):
    for path in ("/v1//embeddings", "/embeddings"):
        same_bits(post(servers.open, TEXTS, path=path)[0], servers.open.truth(TEXTS))
