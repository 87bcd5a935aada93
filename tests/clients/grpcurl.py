"""grpcurl, if tests/it has fetched it to the cache folder."""

import base64
import json
import os
import shutil
import subprocess

import numpy as np

from clients.suite import ANY_VERSION, LINES_TEXTS, MODEL, TEXTS, Client, NotTested, at_servers, expect, same_bits

CLIENT = Client(
    "grpcurl",
    ANY_VERSION,
    """
grpcurl -plaintext -d '{"texts": ["hello", "naïve"]}' localhost:50051 embedd.v1.EmbeddingService/Embed
""",
    language="sh",
)
CLIENTS = [CLIENT]


def program():
    fetched = os.path.join(os.environ["CLIENT_TEST_TOOLS"], "grpcurl", "grpcurl")
    found = fetched if os.path.exists(fetched) else shutil.which("grpcurl")
    if not found:
        raise NotTested("grpcurl is missing; .ci/integration fetches it")
    return found


def call(server, method, message, *flags):
    security = ["-cacert", server.ca] if server.ca else ["-plaintext"]
    flags = [*security, "-max-time", "30", *flags]
    command = [program(), *flags, "-d", json.dumps(message), server.grpc, method]
    output = subprocess.run(command, capture_output=True, timeout=60)
    expect(output.returncode == 0, output.stderr.decode())
    return json.loads(output.stdout)


@CLIENT.check("the lines above")
def run_lines(servers):
    line = at_servers(CLIENT.lines, servers).replace("grpcurl", program(), 1)
    output = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60)
    expect(output.returncode == 0, output.stderr.decode())
    vectors = [embedding["values"] for embedding in json.loads(output.stdout)["embeddings"]]
    same_bits(vectors, servers.open.truth(LINES_TEXTS))


@CLIENT.check("embedd.v1.EmbeddingService/Embed, ENCODING_BYTES, with a token, over TLS")
def packed(servers):
    message = {"texts": TEXTS, "encoding": "ENCODING_BYTES"}
    token = ["-H", f"authorization: Bearer {servers.secured.token}"]
    reply = call(servers.secured, "embedd.v1.EmbeddingService/Embed", message, *token)
    vectors = [np.frombuffer(base64.b64decode(each["packed"]), "<f4") for each in reply["embeddings"]]
    same_bits(vectors, servers.secured.truth(TEXTS))


@CLIENT.check("tei.v1.Embed/Embed")
def tei(servers):
    reply = call(servers.open, "tei.v1.Embed/Embed", {"inputs": TEXTS[1]})
    same_bits([reply["embeddings"]], servers.open.truth(TEXTS[1:2]))


@CLIENT.check("inference.GRPCInferenceService/ModelInfer")
def open_inference(servers):
    contents = {"bytes_contents": [base64.b64encode(text.encode()).decode() for text in TEXTS]}
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "contents": contents}
    message = {"model_name": MODEL, "inputs": [tensor]}
    reply = call(servers.open, "inference.GRPCInferenceService/ModelInfer", message)
    values = np.array(reply["outputs"][0]["contents"]["fp32Contents"], np.float32)
    same_bits(values.reshape(len(TEXTS), -1), servers.open.truth(TEXTS))


@CLIENT.check("list", "the services of all protocols")
def services(servers):
    output = subprocess.run([program(), "-plaintext", servers.open.grpc, "list"], capture_output=True, timeout=60)
    found = output.stdout.decode().split()
    for service in ("embedd.v1.EmbeddingService", "inference.GRPCInferenceService", "tei.v1.Embed"):
        expect(service in found, f"{service} is missing: {found}")
