"""G: what callers may send as a call."""

import collections
import random
import struct
import time

from attacks import messages
from attacks.messages import MAX_MESSAGE_BYTES, field, framed, varint
from attacks.server import MemoryWatch
from attacks.suite import attack
from attacks.wire import Connection

CALLERS_FAULT = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"}


def raw_call(connection, path, body, **headers):
    """A call whose data is sent as it is."""
    stream = connection.open(path, **headers)
    connection.upload(stream, body)
    return connection.wait(stream, 10)


@attack("G01", "A compressed message is refused as UNIMPLEMENTED or INVALID_ARGUMENT, and never decompressed.")
def compressed(server, report):
    import gzip

    bomb = gzip.compress(bytes(50_000_000))
    with MemoryWatch(server) as memory:
        for encoding in ("gzip", "deflate", "zstd", "identity", "x"):
            with Connection(server.grpc) as connection:
                reply = raw_call(
                    connection, messages.EMBED, framed(bomb, compressed=1), extra=[("grpc-encoding", encoding)]
                )
            report.check(
                reply.code in CALLERS_FAULT | {"INTERNAL"} and reply.code != "INTERNAL",
                f"{encoding}: {reply.code} {reply.message[:60]}",
            )
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")


@attack("G02", "Lengths that are wrong are the caller's fault, and nothing is reserved for them.")
def wrong_lengths(server, report):
    cases = {
        "4 GiB announced": framed(b"x", length=0xFFFFFFFF),
        "one byte more than the limit": framed(b"x", length=MAX_MESSAGE_BYTES + 1),
        "an end within the message": framed(b"x" * 10, length=1000),
        "3 of 5 bytes of the prefix": bytes(3),
        "no message": b"",
    }
    with MemoryWatch(server) as memory:
        for name, body in cases.items():
            with Connection(server.grpc) as connection:
                reply = raw_call(connection, messages.EMBED, body)
            report.check(reply.code in CALLERS_FAULT, f"{name}: {reply.code} {reply.message[:60]}")
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")


@attack("G03", "Bytes that are not a message are INVALID_ARGUMENT, in every method, and log less than 20 lines.")
def undecodable(server, report):
    draw = random.Random(2)
    before = server.log_lines()
    codes = collections.Counter()
    paths = [
        messages.EMBED,
        messages.COUNT_TOKENS,
        messages.MODEL_INFER,
        messages.TOKENIZE,
        messages.DECODE,
        messages.TEI_EMBED,
    ]
    crafted = [
        b"\x0b" * 200,
        b"\x0a" + b"\xff" * 8 + b"\x7f",
        b"\x0a\x02\xff\xfe",
        b"\x08" + b"\xff" * 11,
        b"\x0c",
        field(2, 5) * 100_000,
    ]
    with Connection(server.grpc) as connection:
        for path in paths:
            for message in crafted + [draw.randbytes(draw.randrange(1, 200)) for _ in range(30)]:
                codes[connection.call(path, message, wait=10).code] += 1
    report.check(set(codes) <= {"INVALID_ARGUMENT", "OK", "RESOURCE_EXHAUSTED"}, f"{dict(codes)}")
    time.sleep(0.5)
    report.check(
        server.log_lines() - before < 20, f"{server.log_lines() - before} log lines for {sum(codes.values())} messages"
    )
    server.check_well(report)


@attack("G04", "Invalid values of grpc-timeout are ignored, and expired ones end the call.")
def timeouts(server, report):
    expired = ["0n", "1n", "0S"]
    ignored = ["99999999H", "100000000S", "-1S", "1", "S", "1x", "1.5S", " 1S", "9" * 5000 + "S"]
    for text in expired + ignored:
        reply = server.call(messages.EMBED, messages.embed(["a timeout"]), timeout=text)
        expected = {"DEADLINE_EXCEEDED"} if text in expired else {"OK", "INVALID_ARGUMENT"}
        report.check(reply.code in expected, f"`{text[:20]}`: {reply.code}")


@attack("G05", "Unknown methods, paths and content types are refused, and create no labels in the metrics.")
def unknown_routes(server, report):
    cases = {
        "an unknown method": ("/embedd.v1.EmbeddingService/Nothing", {}),
        "an unknown service": ("/a.b/C", {}),
        "no slash": ("x", {}),
        "dots": ("/../../etc/passwd", {}),
        "the admin service": (messages.RELOAD, {}),
        "a long path": ("/" + "a" * 8000, {}),
        "JSON": (messages.EMBED, {"content_type": "application/json"}),
        "GET": (messages.EMBED, {"method": "GET"}),
        "CONNECT": (messages.EMBED, {"method": "CONNECT"}),
    }
    for name, (path, headers) in cases.items():
        with Connection(server.grpc) as connection:
            reply = raw_call(connection, path, framed(b""), **headers)
            report.check(
                reply.code not in ("OK", "NONE") or connection.ended,
                f"{name}: {reply.code}, connection {connection.end}",
            )
    metrics = server.get("/metrics")
    report.check("Nothing" not in metrics and "passwd" not in metrics, "no path of a caller is a label")
    server.check_well(report)


def invalid_tensors():
    good = messages.tensor(texts=["a"])
    empty = messages.tensor(shape=[1])

    def raw(*parts):
        return b"".join(struct.pack("<I", length) + data for length, data in parts)

    return {
        "a length beyond the bytes": {"inputs": [empty], "raw": [raw((0xFFFFFFFF, b"abc"))]},
        "a length one too large": {"inputs": [empty], "raw": [raw((4, b"abc"))]},
        "3 bytes of a length": {"inputs": [empty], "raw": [b"\1\0\0"]},
        "more elements than the shape": {"inputs": [empty], "raw": [raw((1, b"a"), (1, b"b"))]},
        "fewer elements than the shape": {"inputs": [messages.tensor(shape=[2])], "raw": [raw((1, b"a"))]},
        "bytes that are not UTF-8": {"inputs": [empty], "raw": [raw((2, b"\xff\xfe"))]},
        "two raw tensors": {"inputs": [empty], "raw": [raw((1, b"a"))] * 2},
        "raw and typed contents": {"inputs": [good], "raw": [raw((1, b"a"))]},
        "shape -1": {"inputs": [messages.tensor(shape=[-1], texts=["a"])]},
        "shape 0": {"inputs": [messages.tensor(shape=[0], texts=[])]},
        "a shape whose product overflows": {"inputs": [messages.tensor(shape=[1 << 62, 4], texts=["a"])]},
        "100,000 dimensions": {"inputs": [messages.tensor(shape=[1] * 100_000, texts=["a"])]},
        "a shape beyond max_texts": {"inputs": [messages.tensor(shape=[1 << 30], texts=["a"])]},
        "an unknown type": {"inputs": [messages.tensor(datatype="FP32", texts=["a"])]},
        "a name of 10 KB": {"inputs": [messages.tensor(name="x" * 10_000, texts=["a"])]},
        "the same input twice": {"inputs": [good, good]},
        "no input": {},
        "100,000 outputs": {"inputs": [good], "outputs": [b""] * 100_000},
        "dimensions -1": {"inputs": [good], "parameters": [("dimensions", field(2, -1))]},
        "dimensions 2^63": {"inputs": [good], "parameters": [("dimensions", field(5, 1 << 63))]},
        "dimensions 0": {"inputs": [good], "parameters": [("dimensions", field(2, 0))]},
        "shared memory": {"inputs": [good + field(4, field(1, "shared_memory_region") + field(2, field(3, "x")))]},
        "empty parameters": {"inputs": [good], "parameters": [("dimensions", b""), ("normalize", b"")]},
    }


@attack("G06", "Invalid tensors are INVALID_ARGUMENT, with messages of less than 4 KB.")
def tensors(server, report):
    with Connection(server.grpc) as connection:
        for name, parts in invalid_tensors().items():
            reply = connection.call(messages.MODEL_INFER, messages.infer(server.model, **parts), wait=20)
            ok = reply.code == "INVALID_ARGUMENT" and len(reply.message) < 4096
            report.check(ok, f"{name}: {reply.code} {reply.message[:60]}")
    server.check_well(report)


@attack("G07", "Numbers and counts out of range are INVALID_ARGUMENT.")
def numbers(server, report):
    invalid = [
        {"dimensions": 0},
        {"dimensions": 100_000},
        {"dimensions": (1 << 32) - 1},
        {"truncation": 99},
        {"truncation": -1},
        {"encoding": 99},
        {"encoding": -5},
    ]
    with Connection(server.grpc) as connection:
        for options in invalid:
            reply = connection.call(messages.EMBED, messages.embed(["a"], **options))
            report.check(reply.code == "INVALID_ARGUMENT", f"{options}: {reply.code}")
        for texts in [[], ["a"] * 257, ["x" * 65537]]:
            reply = connection.call(messages.EMBED, messages.embed(texts))
            report.check(
                reply.code == "INVALID_ARGUMENT", f"{len(texts)} texts, {sum(map(len, texts))} bytes: {reply.code}"
            )
        for ids in [[], [0xFFFFFFFF] * 10, list(range(30_000)), [2] * 65_536, [2] * 65_537]:
            reply = connection.call(messages.DECODE, messages.decode(ids) if ids else b"", wait=20)
            report.check(
                reply.code in ("OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"),
                f"Decode of {len(ids)} ids: {reply.code}",
            )


@attack("G08", "Errors about many fields are received by a client that takes 8 KiB of headers (grpcio).")
def large_errors(server, report):
    import grpc

    many = {
        messages.COUNT_TOKENS: messages.count_tokens(["x" * 65_537] * 120),
        messages.EMBED: messages.embed(
            ["\0" * 65_537] * 100 + ["" for _ in range(200)], truncation=99, dimensions=0, encoding=99
        ),
        messages.MODEL_INFER: messages.infer(
            server.model,
            [messages.tensor(name="\u4e00" * 2000, datatype="x" * 10_000)],
            parameters=[("dimensions", field(3, "p" * 5000))],
        ),
    }
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc.port}", [("grpc.max_send_message_length", -1)])
    for path, message in many.items():
        reply = server.call(path, message)
        size = len(reply.message) + len(reply.details)
        report.check(size < 8192, f"{path}: {size} bytes of headers, {reply.message[:60]}")
        try:
            channel.unary_unary(path)(message, timeout=60)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        report.check(code == reply.code == "INVALID_ARGUMENT", f"{path}: grpcio receives {code}, sent was {reply.code}")
    channel.close()


@attack("G09", "Unfit request ids are replaced, and no caller writes a line of the log.")
def request_ids(server, report):
    cases = [
        ("abc-1", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("two words", False),
        ('"},{"level":"ERROR', True),
        ("\x1b[31m", False),
    ]
    for value, kept in cases:
        with Connection(server.grpc) as connection:
            reply = raw_call(connection, messages.GET_MODEL, framed(b""), extra=[("x-request-id", value.encode())])
        found = reply.headers.get("x-request-id")
        # A rejected header is an answer, too.
        report.check((found == value) == kept or found is None, f"{value[:30]!r}: {str(found)[:40]!r}, {reply.code}")
    report.check("\x1b" not in server.log(), "no control characters in the log")


@attack("G10", "Nonsense in any known metadata is refused or ignored, never an internal error.")
def metadata(server, report):
    values = ["", " ", "x", "-1", "99999999999999999999", "\u00e9", "a" * 5000, "interactive,bulk", "BULK", "%00", "{}"]
    names = [
        "priority",
        "x-priority",
        "embedd-priority",
        "traceparent",
        "tracestate",
        "grpc-accept-encoding",
        "grpc-encoding",
        "user-agent",
        "te",
        "x-request-id",
        "authorization",
        "grpc-timeout",
        "content-length",
        "forwarded",
        "x-forwarded-for",
    ]
    codes = collections.Counter()
    for name in names:
        for value in values:
            with Connection(server.grpc) as connection:
                reply = raw_call(
                    connection,
                    messages.EMBED,
                    framed(messages.embed(["metadata"])),
                    extra=[(name, value.encode("latin1"))],
                )
            codes[reply.code] += 1
            if reply.code in ("INTERNAL", "UNKNOWN", "NONE") and not connection.ended:
                report.check(False, f"{name}: {value[:30]!r}: {reply.code}")
    report.check("INTERNAL" not in codes, f"{dict(codes)}")
    report.check("panicked" not in server.log(), "no panic in the log")
    server.check_well(report)


@attack("G11", "A stream's invalid messages are answered one by one or end the stream, with bounded errors.")
def stream_errors(server, report):
    with Connection(server.grpc) as connection:
        stream = connection.open(messages.EMBED_STREAM)
        invalid = messages.embed(["x" * 65_537] * 100)
        for message in [
            messages.embed(["a"]),
            messages.embed([]),
            messages.embed(["a"], dimensions=0),
            invalid,
            messages.embed(["a"]),
        ]:
            connection.upload(stream, framed(message), end=False)
        connection.upload(stream, b"")
        reply = connection.wait(stream, 30)
        sizes = [len(message) for message in reply.messages]
        errors = [len(parse_error(message)) for message in reply.messages]
        report.check(len(sizes) == 5 or reply.code in CALLERS_FAULT, f"{len(sizes)} replies, {reply.code}")
        report.check(max(errors, default=0) < 8192, f"errors of {errors} bytes")


def parse_error(message):
    return b"".join(messages.parse(message)[4])


@attack("G12", "The alert for failed calls does not count what callers did wrong.")
def callers_faults_are_not_alerts(server, report):
    def failed():
        lines = [
            line
            for line in server.get("/metrics").splitlines()
            if line.startswith("grpc_server_call_duration_seconds_count")
        ]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if any(f'grpc_status="{code}"' in line for code in ("INTERNAL", "UNKNOWN", "DATA_LOSS"))
        )

    before = failed()
    with Connection(server.grpc) as connection:
        for body in [
            framed(b"\x0b\xff"),
            framed(b"x" * 10, length=1000),
            framed(b"x", compressed=1),
            b"",
            bytes(3),
            framed(b"x", compressed=7),
        ]:
            raw_call(connection, messages.EMBED, body)
        raw_call(connection, messages.DECODE, framed(varint(1 << 60)))
    report.check(failed() == before, f"{failed() - before:.0f} calls counted as the server's fault")
