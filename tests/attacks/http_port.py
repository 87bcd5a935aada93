"""W: the HTTP port, with OpenAI's API, metrics and probes."""

import gzip
import json
import re
import socket
import time

from attacks.connections import peers
from attacks.server import HealthWatch, MemoryWatch
from attacks.suite import attack
from attacks.wire import PREFACE, SETTINGS, frame

TOKEN = "a-token-for-openai-0001"
JSON = ("content-type", "application/json")


def exchange(server, data, timeout=5, until=None):
    """Sends bytes as they are. Returns what comes within the time, and whether the server closed the connection."""
    received = b""
    with server.http.connect(timeout) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not (until and until in received):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                more = connection.recv(1 << 16)
            except TimeoutError:
                break
            except OSError:
                return received, True
            if not more:
                return received, True
            received += more
    return received, False


def statuses(received):
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]


def head(server, method="POST", path="/v1/embeddings", headers=(), token=True, version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", "host: localhost"]
    if token and server.http.token:
        lines.append(f"authorization: Bearer {server.http.token}")
    return "\r\n".join(lines + [f"{name}: {value}" for name, value in headers]).encode() + b"\r\n\r\n"


def valid_body(server, text="a"):
    return json.dumps({"model": server.model, "input": text}).encode()


@attack(
    "W01",
    "A request whose length can be read in two ways is refused or answered once; a second one is never smuggled in.",
)
def smuggling(server, report):
    smuggled = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    begin = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    length = str(len(smuggled) + 5).encode()
    chunked = b"\r\n0\r\n\r\n" + smuggled
    cases = {
        "length and chunked": begin + b"content-length: " + length + b"\r\ntransfer-encoding: chunked\r\n" + chunked,
        "chunked and length": begin + b"transfer-encoding: chunked\r\ncontent-length: " + length + b"\r\n" + chunked,
        "two lengths": begin + b"content-length: 0\r\ncontent-length: " + length + b"\r\n" + chunked,
        "a list of lengths": begin + b"content-length: 0, 5\r\n\r\n" + smuggled,
        "length +0": begin + b"content-length: +0\r\n\r\n" + smuggled,
        "length 0x0": begin + b"content-length: 0x0\r\n\r\n" + smuggled,
        "length beyond 64 bits": begin + b"content-length: 18446744073709551616\r\n\r\n" + smuggled,
        "negative length": begin + b"content-length: -1\r\n\r\n" + smuggled,
        "xchunked": begin + b"transfer-encoding: xchunked\r\n" + chunked,
        "space before the colon": begin
        + b"transfer-encoding : chunked\r\ncontent-length: "
        + length
        + b"\r\n"
        + chunked,
        "folded header": begin + b"transfer-encoding:\r\n chunked\r\ncontent-length: " + length + b"\r\n" + chunked,
        "HTTP/1.0 and chunked": begin.replace(b"HTTP/1.1", b"HTTP/1.0") + b"transfer-encoding: chunked\r\n" + chunked,
        "NUL in a name": begin + b"a\0b: c\r\ncontent-length: 0\r\n\r\n" + smuggled,
    }
    for name, data in cases.items():
        received, closed = exchange(server, data, timeout=1)
        codes = statuses(received)
        report.check(len(codes) <= 1 and 200 not in codes, f"{name}: {codes}, closed: {closed}")
    server.check_well(report)


@attack("W02", "Invalid and endless chunks get 400, 413 or 431, or end the connection; they take less than 60 MiB.")
def chunks(server, report):
    begin = head(server, headers=[JSON, ("transfer-encoding", "chunked")])
    mebibyte = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    cases = {
        "a size beyond 64 bits": b"FFFFFFFFFFFFFFFFF\r\nx",
        "a size with a sign": b"-1\r\nx\r\n0\r\n\r\n",
        "not a number": b"zz\r\nx\r\n0\r\n\r\n",
        "no CRLF after a chunk": b"1\r\nxx0\r\n\r\n",
        "an extension of 2 MB": b"1;" + b"a" * 2_000_000 + b"\r\nx\r\n0\r\n\r\n",
        "trailers of 2 MB": b"0\r\n" + b"a: b\r\n" * 333_000 + b"\r\n",
        "200,000 chunks of 1 byte": b"1\r\n \r\n" * 200_000 + b"0\r\n\r\n",
        "more than max_message_bytes": mebibyte * 10 + b"0\r\n\r\n",
    }
    with MemoryWatch(server) as memory:
        for name, data in cases.items():
            received, closed = exchange(server, begin + data, timeout=10, until=b"\r\n\r\n")
            report.check(
                statuses(received)[:1] in ([400], [413], [431]) or closed,
                f"{name}: {statuses(received)}, closed: {closed}",
            )
        report.check(memory.grown < 60, f"memory grew by {memory.grown:.0f} MiB")
    server.check_well(report)


@attack("W04", "A body of one byte per second gets 408 or ends the connection within 90 s.", slow=True)
def slow_body(server, report):
    started = time.monotonic()
    received = b""
    ended = False
    with server.http.connect(5) as connection:
        connection.sendall(head(server, headers=[JSON, ("content-length", "1000")]))
        while not ended and time.monotonic() - started < 90:
            try:
                connection.sendall(b" ")
                connection.settimeout(1)
                received = connection.recv(4096)
                ended = True
            except TimeoutError:
                pass
            except OSError:
                ended = True
    report.check(ended, f"{statuses(received)} after {time.monotonic() - started:.0f} s")


@attack("W05", "A compressed body is decompressed up to the maximum, and gets 413; other content-encodings get 415.")
def encodings(server, report):
    bomb = gzip.compress(b" " * 50_000_000)
    with MemoryWatch(server) as memory:
        for encoding in ("gzip", "br", "zstd", "deflate", "gzip, gzip", "x" * 1000):
            status = server.openai(bomb, **{"content-encoding": encoding})
            report.check(status == (413 if encoding == "gzip" else 415), f"{encoding[:20]}: {status}")
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")
    report.check(server.openai(valid_body(server), **{"content-encoding": "identity"}) == 200, "`identity` is accepted")


def odd_bodies(model):
    begin = b'{"model":' + json.dumps(model).encode() + b","
    return {
        "100,000 nested lists": begin + b'"input":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "100,000 nested objects": begin + b'"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b',"input":"a"}',
        "no end": begin + b'"input":"a"',
        "more after the end": begin + b'"input":"a"}}',
        "NaN": begin + b'"input":"a","dimensions":NaN}',
        "dimensions 1e400": begin + b'"input":"a","dimensions":1e400}',
        "dimensions -1": begin + b'"input":"a","dimensions":-1}',
        "dimensions 2^64": begin + b'"input":"a","dimensions":18446744073709551616}',
        "a number of 1 MB": begin + b'"input":"a","dimensions":' + b"1" * 1_000_000 + b"}",
        "a lone surrogate": begin + b'"input":"\\ud800"}',
        "not UTF-8": begin + b'"input":"\xff\xfe"}',
        "a control character": begin + b'"input":"a\nb"}',
        "a byte order mark": b"\xef\xbb\xbf" + begin + b'"input":"a"}',
        "two inputs": begin + b'"input":"a","input":"b"}',
        "no input": begin + b'"x":1}',
        "a mixed list": begin + b'"input":["a",1,{"b":[null]}]}',
        "no texts": begin + b'"input":[]}',
        "2049 texts": begin + b'"input":[' + b",".join([b'"a"'] * 2049) + b"]}",
        "token ids beyond the vocabulary": begin + b'"input":[' + b",".join([b"4294967295"] * 60_000) + b"]}",
        "a million token ids": begin + b'"input":[' + b",".join([b"7"] * 1_000_000) + b"]}",
        "a million lists of token ids": begin + b'"input":[' + b",".join([b"[7]"] * 1_000_000) + b"]}",
        "an unknown encoding": begin + b'"input":"a","encoding_format":"hex"}',
        "a model that is a list": b'{"model":[],"input":"a"}',
        "nothing": b"",
        "null": b"null",
        "a string": b'"x"',
        "a list": b"[]",
    }


@attack("W06", "Odd JSON gets a status of the 4xx, takes less than a second of CPU each and less than 60 MiB in all.")
def odd_json(server, report):
    with MemoryWatch(server) as memory:
        for name, body in odd_bodies(server.model).items():
            before = server.cpu_seconds()
            status = server.openai(body)
            spent = server.cpu_seconds() - before
            report.check(400 <= status < 500 and spent < 1, f"{name}: {status}, {spent:.2f} s of CPU")
        report.check(memory.grown < 60, f"memory grew by {memory.grown:.0f} MiB")
    server.check_well(report)


@attack("W07", "Invalid paths get a status of the 4xx, and no file is read.")
def paths(server, report):
    for path in [
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/models/%ff",
        "/v1/models/%00",
        "/v1/models/%",
        "/v1/models/" + "a" * 10_000,
        "//healthz",
        "/healthz/",
        "/metrics%00",
        "/v1/embeddings/",
        "/../metrics",
        "*",
    ]:
        received, _ = exchange(server, head(server, "GET", path), timeout=3, until=b"\r\n\r\n")
        codes = statuses(received)
        report.check(codes and 400 <= codes[0] < 500 and b"root:" not in received, f"{path[:40]}: {codes}")


@attack("W08", "Headers that are too large or too many get 431, or end the connection.")
def large_headers(server, report):
    cases = {
        "17 KiB in one line": [("x", "a" * 17 * 1024)],
        "200 lines": [(f"x{number}", "a") for number in range(200)],
        "1 MB": [("x", "a" * 1_000_000)],
        "a name of 20 KB": [("x" * 20_000, "a")],
    }
    with MemoryWatch(server) as memory:
        for name, headers in cases.items():
            received, closed = exchange(
                server, head(server, "GET", "/v1/models", headers), timeout=3, until=b"\r\n\r\n"
            )
            report.check(
                statuses(received)[:1] in ([431], [400]) or closed, f"{name}: {statuses(received)}, closed: {closed}"
            )
        received, closed = exchange(
            server, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", timeout=3, until=b"\r\n\r\n"
        )
        report.check(
            statuses(received)[:1] in ([414], [431], [400]) or closed, f"a path of 70 KB: {statuses(received)}"
        )
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")


@attack("W09", "10,000 pipelined requests whose answers are not read take less than 20 MiB.", fresh=True)
def pipelining(server, report):
    request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        connections = []
        for _ in range(10):
            connection = server.http.connect(2, receive_buffer=4096)
            connections.append(connection)
            try:
                connection.sendall(request * 10_000)
            except OSError:
                pass
        time.sleep(1)
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")
        health.check(report)
    for connection in connections:
        connection.close()
    server.check_well(report)


@attack(
    "W10", "A wrong token gets 401 before the body is sent, and bodies of such callers take no memory.", tokens=[TOKEN]
)
def body_without_token(server, report):
    length = 8 * 1024 * 1024 - 1
    headers = [JSON, ("content-length", str(length)), ("authorization", "Bearer wrong"), ("expect", "100-continue")]
    received, _ = exchange(server, head(server, headers=headers, token=False), timeout=5, until=b"}")
    report.check(statuses(received)[:1] == [401], f"with `expect: 100-continue`: {statuses(received)}")
    received, closed = exchange(server, head(server, headers=headers[:-1], token=False), timeout=5, until=b"}")
    report.check(
        statuses(received)[:1] == [401] or closed, f"without a byte of the body: {statuses(received)}, closed: {closed}"
    )
    held = []
    with MemoryWatch(server) as memory:
        for source in peers(40):
            connection = server.http.connect(2, source)
            held.append(connection)
            try:
                connection.sendall(head(server, headers=headers[:-1], token=False) + b" " * (4 << 20))
            except OSError:
                pass
        report.check(memory.grown < 20, f"40 bodies of 4 MiB: memory grew by {memory.grown:.0f} MiB")
    for connection in held:
        connection.close()


@attack("W11", "Requests that a web page of another site can cause are refused, and preflights allow nothing.")
def cross_site(server, report):
    body = valid_body(server)
    length = ("content-length", str(len(body)))
    cases = {
        "Origin, no content-type": [("origin", "https://evil.example")],
        "Origin, text/plain": [("origin", "https://evil.example"), ("content-type", "text/plain")],
        "Origin, JSON": [("origin", "https://evil.example"), JSON],
        "sec-fetch-site": [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
    }
    for name, headers in cases.items():
        received, _ = exchange(server, head(server, headers=[*headers, length]) + body, timeout=5, until=b"}")
        # JSON needs a preflight in browsers, so that case may be answered.
        report.check(statuses(received)[:1] != [200] or name == "Origin, JSON", f"{name}: {statuses(received)}")
    preflight = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ]
    received, _ = exchange(server, head(server, "OPTIONS", headers=preflight), timeout=3, until=b"\r\n\r\n")
    report.check(
        b"access-control-allow" not in received.lower(), f"preflight: {statuses(received)}, nothing is allowed"
    )


@attack("W12", "Unknown methods and other protocols are refused, and nothing is reflected.")
def methods(server, report):
    for method in ("TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO", "x" * 1000, "get"):
        path = "localhost:443" if method == "CONNECT" else "/v1/embeddings"
        received, closed = exchange(
            server, head(server, method, path, [("x-secret", "s3cret")]), timeout=2, until=b"\r\n\r\n"
        )
        ok = statuses(received)[:1] not in ([200], [500], [101]) and b"s3cret" not in received
        report.check(ok, f"{method[:10]}: {statuses(received)}, closed: {closed}")
    upgrade = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n\r\n"
    cases = {
        "HTTP/0.9": b"GET /metrics\r\n",
        "HTTP/3.7": b"GET /metrics HTTP/3.7\r\n\r\n",
        "zeros": bytes(20_000),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        "an upgrade to h2c": upgrade,
        "a broken preface of HTTP/2": PREFACE[:16] + b"xx" + frame(SETTINGS, 0, 0),
    }
    for name, data in cases.items():
        # A request that never ends is closed after 30 s.
        received, closed = exchange(server, data, timeout=40 if name == "HTTP/0.9" else 2)
        refused = closed or statuses(received)[:1] in ([400], [505]) or "upgrade" in name
        report.check(refused and 101 not in statuses(received), f"{name}: {statuses(received)}, closed: {closed}")
    server.check_well(report)


@attack(
    "W13",
    "A client that reads one byte per 10 ms of a large reply is cut off, or takes no more memory than its reply.",
    fresh=True,
)
def slow_reader(server, report):
    texts = [f"{number:x}" for number in range(64)]
    server.openai(json.dumps({"model": server.model, "input": texts}).encode())
    body = json.dumps({"model": server.model, "input": texts}).encode()
    request = head(server, headers=[JSON, ("content-length", str(len(body)))]) + body
    held = []
    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        for number in range(100):
            connection = server.http.connect(2, peers(10)[number % 10], receive_buffer=4096)
            held.append(connection)
            connection.sendall(request)
        for _ in range(200):
            for connection in held[:10]:
                try:
                    connection.settimeout(0.001)
                    connection.recv(1)
                except OSError:
                    pass
            time.sleep(0.01)
        report.check(memory.grown < 128, f"100 replies of 550 KB: memory grew by {memory.grown:.0f} MiB")
        health.check(report)
    for connection in held:
        connection.close()
    server.check_well(report)


@attack(
    "W14", "A flood of requests for OpenAI's API leaves room for gRPC callers, and the other way round.", fresh=True
)
def openai_flood(server, report):
    import threading

    end = threading.Event()
    codes = []

    def flood(number):
        while not end.is_set():
            body = json.dumps(
                {
                    "model": server.model,
                    "input": [f"{number} {text} {time.time_ns()} " + "word " * 40 for text in range(256)],
                }
            ).encode()
            try:
                codes.append(server.openai(body, timeout=60))
            except OSError as error:
                codes.append(type(error).__name__)
            if codes[-1] != 200:
                time.sleep(0.05)

    threads = [threading.Thread(target=flood, args=(number,), daemon=True) for number in range(40)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    found = [server.embed(f"beside OpenAI, {number} {time.time_ns()}")[1] for number in range(5)]
    end.set()
    report.check(found == ["OK"] * 5, f"a gRPC caller beside 40 OpenAI callers: {found}")
    report.check(server.probe() is not None, "health is answered")


@attack(
    "W15", "A client that stops in the middle of a request keeps nothing from others, and HEAD of /metrics is cheap."
)
def half_requests(server, report):
    before = server.open_files()
    connections = []
    for source in peers(30):
        connection = server.http.connect(2, source)
        connection.sendall(head(server, headers=[JSON, ("content-length", "100")]) + b'{"model"')
        connection.shutdown(socket.SHUT_WR)
        connections.append(connection)
    time.sleep(1)
    for connection in connections:
        connection.close()
    time.sleep(1)
    report.check(server.open_files() - before < 10, f"descriptors before and after: {before}, {server.open_files()}")
    server.check_well(report)


def huge_bodies():
    million = 1_000_000
    texts = b'[""' + b',""' * million + b"]"
    ids = b"[7" + b",7" * million + b"]"
    deep = b"[" * 100_000 + b"]" * 100_000
    inputs = {
        "a million empty texts": texts,
        "a million ids": ids,
        "a million lists of ids": b"[[7]" + b",[7]" * million + b"]",
        "deep": deep,
        "6 MiB of text": b'"' + b"word " * 1_200_000 + b'"',
        "a million numbers in lists of texts": b'["a",' + ids + b"]",
    }
    for name, value in inputs.items():
        yield f"/embed, {name}", "/embed", b'{"inputs":' + value + b"}"
        yield f"/tokenize, {name}", "/tokenize", b'{"inputs":' + value + b"}"
        yield f"/decode, {name}", "/decode", b'{"ids":' + value + b"}"
        sentences = b'{"inputs":{"source_sentence":"a","sentences":' + value + b"}}"
        yield f"/similarity, {name}", "/similarity", sentences
        yield f"/v2/embed, {name}", "/v2/embed", b'{"texts":' + value + b',"embedding_types":' + value + b"}"
        tensor = b'{"name":"text","shape":' + value + b',"datatype":"BYTES","data":' + value + b"}"
        yield f"infer, {name}", "/v2/models/MODEL/infer", b'{"inputs":[' + tensor + b'],"outputs":' + value + b"}"


@attack(
    "W16",
    "Huge bodies for the other APIs get a status of the 4xx, take less than a second of CPU each and less than 100 MiB.",
    fresh=True,
)
def other_apis(server, report):
    with MemoryWatch(server) as memory:
        for name, path, body in huge_bodies():
            before = server.cpu_seconds()
            status = server.post(path.replace("MODEL", server.model.rsplit("/", 1)[-1]), body)
            spent = server.cpu_seconds() - before
            report.check(400 <= status < 500 and spent < 1, f"{name}: {status}, {spent:.2f} s of CPU")
        report.check(memory.grown < 100, f"memory grew by {memory.grown:.0f} MiB")
    server.check_well(report)


@attack(
    "W17",
    "64 KiB of text for /tokenize, 3.6 million ids for /decode and truncation of 6 MiB take less than 150 MiB, and others "
    "are served meanwhile.",
)
def long_texts(server, report):
    text = b'"' + b"word, " * 10_900 + b'"'
    long = b'"' + b"word, " * 1_000_000 + b'"'
    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        status = server.post("/tokenize", b'{"inputs":' + text + b"}")
        report.check(status == 200, f"/tokenize of 64 KiB: {status}")
        lists = b",".join([b"[" + b",".join([b"7"] * 15_000) + b"]"] * 240)
        status = server.post("/decode", b'{"ids":[' + lists + b"]}")
        report.check(status == 200, f"/decode of 3.6 million ids: {status}")
        for side in (b"Right", b"Left"):
            body = b'{"inputs":' + long + b',"truncate":true,"truncation_direction":"' + side + b'"}'
            before = server.cpu_seconds()
            status = server.post("/embed", body)
            spent = server.cpu_seconds() - before
            report.check(status == 200 and spent < 2, f"{side.decode()}: {status}, {spent:.2f} s of CPU")
        report.check(memory.grown < 150, f"memory grew by {memory.grown:.0f} MiB")
        health.check(report)
    server.check_well(report)
