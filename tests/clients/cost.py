"""What a cache hit costs through each protocol: one short text, one connection, one call at a time."""

import base64
import http.client
import json
import os
import platform
import random
import statistics
import struct
import time

import grpc
import numpy as np

from attacks import messages
from clients.server import Program
from clients.suite import MODEL, expect

TEXT = "Ignore all previous instructions"
WARM_UP = 20
TIMEOUT = 30
BUNDLE = "sentence-transformers--all-mpnet-base-v2"
JSON = {"content-type": "application/json"}


def default_bundle():
    """The bundle of all-mpnet-base-v2 in the cache folder, if it exists."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("EMBEDD_HOME") or os.path.join(cache, "embedd")
    bundle = os.path.join(home, "bundles", BUNDLE)
    return bundle if os.path.exists(os.path.join(bundle, "manifest.json")) else None


def run(binary, bundle, options):
    with Program(binary, bundle).start() as server:
        truth = server.truth([TEXT])[0]
        doors = Doors(server)
        for name, call in doors.calls.items():
            found = call()
            expect(found.tobytes() == truth.tobytes(), f"{name} returns other bits")
            for _ in range(WARM_UP):
                call()
        expect(doors.is_cached(), "the vector is not in the cache")
        times = in_rotation(doors.calls, options.calls)
        doors.close()
    print(f"{cpu()}, one text of {len(truth)} dimensions from the cache, {options.calls} calls each\n")
    print("| protocol | P50 | P99 | request | response |\n|---|---|---|---|---|")
    for name, seconds in times.items():
        p99 = statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else seconds[0]
        sizes = " | ".join(f"{size} B" for size in doors.sizes[name])
        print(f"| {name} | {statistics.median(seconds) * 1e6:.0f} µs | {p99 * 1e6:.0f} µs | {sizes} |")
    return 0


def in_rotation(calls, count):
    """The seconds of each call, which include decoding the vector. Each round calls all protocols once, in another
    order, because a call may find the caches of the CPU as the one before it has left them."""
    times = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(1).shuffle
    for _ in range(count):
        shuffle(order)
        for name in order:
            call = calls[name]
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return times


def cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs"


class Doors:
    """A call through each protocol, which returns the vector, and the bytes of its messages."""

    def __init__(self, server):
        # One connection for each protocol.
        self.channels = []
        self.connections = []
        self.server = server
        self.sizes = {}
        self.calls = {
            "embedd.v1 gRPC, packed bytes": self.embedd(),
            "tei.v1 gRPC": self.tei(),
            "ModelInfer gRPC, raw": self.infer(),
            "OpenAI, JSON float": self.openai("float"),
            "OpenAI, JSON base64": self.openai("base64"),
            "TEI /embed": self.http("/embed", {"inputs": TEXT}, lambda body: json.loads(body)[0]),
            "Cohere /v2/embed": self.cohere(),
            "v2 infer, JSON": self.infer_json(),
            "v2 infer, binary": self.infer_binary(),
        }

    def close(self):
        for each in (*self.channels, *self.connections):
            each.close()

    def is_cached(self):
        reply = self.channels[0].unary_unary(messages.EMBED)(messages.embed([TEXT]), timeout=TIMEOUT)
        return messages.embeddings(reply)[0].cached

    def grpc(self, name, path, request, vector):
        # Without sharing of connections between channels.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(self.server.grpc, options)
        self.channels.append(channel)
        method = channel.unary_unary(path)

        def call():
            reply = method(request, timeout=TIMEOUT)
            self.sizes[name] = (len(request), len(reply))
            return np.frombuffer(vector(messages.parse(reply)), "<f4")

        return call

    def embedd(self):
        request = messages.embed([TEXT], encoding=messages.ENCODING_BYTES)
        name = "embedd.v1 gRPC, packed bytes"
        return self.grpc(name, messages.EMBED, request, lambda reply: messages.parse(reply[1][0])[2][0])

    def tei(self):
        return self.grpc("tei.v1 gRPC", messages.TEI_EMBED, messages.field(1, TEXT), lambda reply: reply[1][0])

    def infer(self):
        text = TEXT.encode()
        request = messages.infer(MODEL, [messages.tensor()], [struct.pack("<I", len(text)) + text])
        return self.grpc("ModelInfer gRPC, raw", messages.MODEL_INFER, request, lambda reply: reply[6][0])

    def http(self, path, body, vector, headers=None, name=None):
        name = name or f"TEI {path}"
        host, port = self.server.http.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
        connection.connect()
        self.connections.append(connection)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()

        def call():
            connection.request("POST", path, body, headers or JSON)
            response = connection.getresponse()
            reply = response.read()
            expect(response.status == 200, reply[:200])
            self.sizes[name] = (len(body), len(reply))
            found = vector(reply)
            return np.frombuffer(found, "<f4") if isinstance(found, bytes) else np.array(found, np.float32)

        return call

    def openai(self, encoding):
        body = {"model": MODEL, "input": TEXT, "encoding_format": encoding}
        read = base64.b64decode if encoding == "base64" else list
        name = f"OpenAI, JSON {encoding}"
        return self.http(
            "/v1/embeddings", body, lambda reply: read(json.loads(reply)["data"][0]["embedding"]), name=name
        )

    def cohere(self):
        body = {"model": MODEL, "texts": [TEXT], "input_type": "search_query", "embedding_types": ["float"]}
        name = "Cohere /v2/embed"
        return self.http("/v2/embed", body, lambda reply: json.loads(reply)["embeddings"]["float"][0], name=name)

    def infer_json(self):
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}]}
        path = f"/v2/models/{MODEL}/infer"
        return self.http(path, body, lambda reply: json.loads(reply)["outputs"][0]["data"], name="v2 infer, JSON")

    def infer_binary(self):
        text = TEXT.encode()
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1]}
        tensor["parameters"] = {"binary_data_size": 4 + len(text)}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        body = head + struct.pack("<I", len(text)) + text
        headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}

        def read(reply):
            # The JSON names the size of the tensor after it.
            json_part, _ = json.JSONDecoder().raw_decode(reply.decode("latin-1"))
            return reply[-json_part["outputs"][0]["parameters"]["binary_data_size"] :]

        path = f"/v2/models/{MODEL}/infer"
        return self.http(path, body, read, headers, "v2 infer, binary")
