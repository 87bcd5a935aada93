"""M: memory that callers make the server spend."""

import collections
import http.client
import json
import struct
import time

from attacks import messages
from attacks.connections import peers
from attacks.messages import MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, PUNCTUATION, field, framed, varint
from attacks.server import HealthWatch, MemoryWatch, together
from attacks.suite import FAIR_MIB, attack
from attacks.wire import INITIAL_WINDOW_SIZE, WINDOW_UPDATE, Connection, call, frame

REFUSED = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"}
NO_WINDOW = [(INITIAL_WINDOW_SIZE, 0)]


def check_grown(report, memory, what, limit=FAIR_MIB):
    return report.check(memory.grown < limit, f"{what}: memory grew by {memory.grown:.0f} MiB")


def outcomes(codes):
    return ", ".join(f"{count} {code}" for code, count in collections.Counter(codes).most_common())


# Messages that grow when they are decoded.


@attack("M01", "A ModelInfer of 400 KB with 200,000 empty tensors is refused; memory grows by less than 16 MiB.")
def empty_tensors(server, report):
    with MemoryWatch(server) as memory:
        reply = server.call(messages.MODEL_INFER, messages.infer(server.model) + b"\x2a\x00" * 200_000)
        report.check(reply.code == "INVALID_ARGUMENT", f"{reply.code} {reply.message[:80]}")
        check_grown(report, memory, "2 bytes on the wire are 312 in memory", 16)


def repeated_fields(model):
    """Requests of up to 8 MiB that consist of one repeated field, for every method that has one."""
    most = MAX_MESSAGE_BYTES - 100
    head = messages.infer(model)
    pair = field(1, b"")
    distinct = b"".join(field(4, field(1, f"{number:x}") + field(2, b"")) for number in range(500_000))
    tensors = messages.infer(model, [messages.tensor() + field(3, 1) * 2_000_000])
    typed = messages.infer(model, [messages.tensor(shape=[1], texts=[""] * 2_000_000)])
    return {
        "ModelInfer inputs": (messages.MODEL_INFER, head + b"\x2a\x00" * ((most - len(head)) // 2)),
        "ModelInfer outputs": (messages.MODEL_INFER, head + b"\x32\x00" * ((most - len(head)) // 2)),
        "ModelInfer raw contents": (messages.MODEL_INFER, head + b"\x3a\x00" * ((most - len(head)) // 2)),
        "ModelInfer parameters": (messages.MODEL_INFER, (head + distinct)[:most]),
        "ModelInfer shape": (messages.MODEL_INFER, tensors),
        "ModelInfer typed contents": (messages.MODEL_INFER, typed),
        "Embed texts": (messages.EMBED, b"\x0a\x00" * (most // 2)),
        "CountTokens texts": (messages.COUNT_TOKENS, b"\x0a\x00" * (most // 2)),
        "EmbedStream texts": (messages.EMBED_STREAM, b"\x0a\x00" * (most // 2)),
        "Decode ids": (messages.DECODE, field(1, b"\x02" * (most - 10))),
        "Decode ids, not packed": (messages.DECODE, b"\x08\x02" * (most // 2)),
        "unknown fields": (messages.EMBED, b"\x7a\x00" * (most // 2)),
        "one field 4,000,000 times": (messages.TOKENIZE, b"\x0a\x00" * (most // 2)),
        "groups": (messages.EMBED, b"\x7b" * 1_000_000),
        "pairs on the service's listener": (messages.VALIDATE, pair * (most // 2)),
    }


@attack(
    "M02",
    "A message of 8 MiB that consists of one repeated field is refused in every method, and takes little memory.",
    fresh=True,
)
def full_messages(server, report):
    for name, (path, message) in repeated_fields(server.model).items():
        with MemoryWatch(server) as memory:
            reply = server.call(path, message)
            refused = reply.code in REFUSED | {"UNIMPLEMENTED"} or path == messages.EMBED_STREAM and reply.messages
            report.check(refused, f"{name}: {reply.code} {reply.message[:60]}")
            # The received bytes themselves, and what the allocator keeps.
            check_grown(report, memory, f"{name}, {len(message) / 2**20:.1f} MiB", 40)
    server.check_well(report)


@attack("M03", "Four such messages at once, over four connections, take less than 128 MiB.", fresh=True)
def full_messages_at_once(server, report):
    for name in ("ModelInfer inputs", "Embed texts", "CountTokens texts"):
        path, message = repeated_fields(server.model)[name]
        codes = []
        with MemoryWatch(server) as memory:
            together([lambda: codes.append(server.call(path, message, wait=120).code)] * 4)
            check_grown(report, memory, f"{name}: {outcomes(codes)}")
        report.check(set(codes) <= REFUSED, f"{name}: {outcomes(codes)}")
    server.check_well(report)


@attack(
    "M04", "Four OpenAI requests of 2,700,000 empty strings at once are refused and take less than 128 MiB.", fresh=True
)
def empty_strings(server, report):
    bodies = {
        "empty strings": b'{"model":"%s","input":[' % server.model.encode() + b'"",' * 2_700_000 + b'""]}',
        "lists of numbers": b'{"model":"%s","input":[' % server.model.encode() + b"[1]," * 2_000_000 + b"[]]}",
        "unknown keys": b'{"model":"%s",' % server.model.encode()
        + b"".join(b'"%x":[],' % number for number in range(700_000))
        + b'"input":1}',
    }
    for name, body in bodies.items():
        codes = []
        with MemoryWatch(server) as memory:
            together([lambda: codes.append(openai(server, body))] * 4)
            check_grown(report, memory, f"{name}, {len(body) / 1e6:.1f} MB")
        report.check(set(codes) <= {400, 413, 429, 503}, f"{name}: {outcomes(codes)}")
    server.check_well(report)


def openai(server, body, timeout=60, **headers):
    headers = {"content-type": "application/json", **headers}
    if server.http.token:
        headers["authorization"] = f"Bearer {server.http.token}"
    connection = http.client.HTTPConnection(*server.http.address, timeout=timeout)
    try:
        connection.request("POST", "/v1/embeddings", body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


# Replies that nobody reads.


def fill_cache(server, count=256):
    """Texts whose embeddings are in the cache."""
    texts = [f"{number:x}" for number in range(count)]
    for at in range(0, count, 32):
        # Retried, because a refused text would leave the cache without it.
        for _ in range(20):
            if server.call(messages.EMBED, messages.embed(texts[at : at + 32]), wait=120).code == "OK":
                break
            time.sleep(0.2)
    return texts


def leave_unread(server, report, path, message, calls, connections, seconds=6, limit=FAIR_MIB, trickle=False):
    """Makes calls and does not read the replies; with `trickle`, one byte of one of them at a time."""
    held = []
    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        for number in range(connections):
            # Ten connections to a peer.
            try:
                connection = Connection(server.grpc, settings=NO_WINDOW, source=peers(1 + number // 10)[-1], timeout=5)
            except OSError:
                continue
            connection.returns_window = False
            held.append(connection)
            for _ in range(calls):
                connection.upload(connection.open(path), framed(message), timeout=2)
                if connection.ended:
                    break
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for connection in held:
                if trickle:
                    one = struct.pack(">I", 1)
                    connection.send(b"".join(frame(WINDOW_UPDATE, 0, stream, one) for stream in range(1, 2 * calls, 2)))
                connection.pump(0.01)
        living = sum(not connection.ended for connection in held)
        check_grown(
            report, memory, f"{connections} connections with {calls} unread replies each, {living} still open", limit
        )
        health.check(report)
    for connection in held:
        connection.close()
    server.check_well(report)


@attack("M05", "250 unread replies of 800 KB on one connection take less than 128 MiB.", fresh=True)
def unread_replies(server, report):
    leave_unread(server, report, messages.EMBED, messages.embed(fill_cache(server)), 250, 1)


@attack("M06", "The same on 20 connections of two peers takes less than 200 MiB.", fresh=True)
def unread_replies_of_many(server, report):
    leave_unread(server, report, messages.EMBED, messages.embed(fill_cache(server)), 60, 20, limit=200)


@attack("M07", "200 unread replies of TEI's Tokenize, 1 MB each, take less than 128 MiB.", fresh=True)
def unread_tokens(server, report):
    leave_unread(server, report, messages.TOKENIZE, messages.tokenize(PUNCTUATION), 200, 1)


@attack("M08", "Streams of large requests whose replies are not read take less than 128 MiB.", fresh=True)
def unread_streams(server, report):
    request = framed(messages.embed(fill_cache(server)))
    held = []
    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        for source in peers(4):
            connection = Connection(server.grpc, settings=NO_WINDOW, source=source, timeout=5)
            held.append(connection)
            for _ in range(60):
                stream = connection.open(messages.EMBED_STREAM)
                if not connection.upload(stream, request * 33, end=False, timeout=1):
                    break
        for connection in held:
            connection.pump(1)
        check_grown(
            report, memory, f"4 connections of up to 60 streams, {sum(not each.ended for each in held)} still open"
        )
        health.check(report)
    for connection in held:
        connection.close()
    server.check_well(report)


@attack("M09", "60 HTTP clients that do not read replies of 2 MB take less than 128 MiB.", fresh=True)
def unread_http(server, report):
    body = json.dumps({"model": server.model, "input": fill_cache(server)}).encode()
    head = (
        b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % len(body)
    )
    held = []
    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        for number in range(60):
            connection = server.http.connect(5, peers(1 + number // 10)[-1], receive_buffer=4096)
            connection.sendall(head + body)
            held.append(connection)
        time.sleep(8)
        check_grown(report, memory, "60 unread replies")
        health.check(report)
    for connection in held:
        connection.close()
    server.check_well(report)


@attack("M16", "Replies that are read one byte at a time take no more memory than unread ones.", fresh=True)
def trickled_replies(server, report):
    leave_unread(server, report, messages.EMBED, messages.embed(fill_cache(server)), 100, 2, trickle=True)


@attack("M21", "Unread replies over TLS are bounded in the same way.", fresh=True, tls="server")
def unread_over_tls(server, report):
    leave_unread(server, report, messages.EMBED, messages.embed(fill_cache(server)), 250, 1)


@attack("M27", "Unread replies of reflection take less than 64 MiB.", fresh=True)
def unread_reflection(server, report):
    request = framed(field(4, "embedd.v1.EmbeddingService"))
    with MemoryWatch(server) as memory, Connection(server.grpc, settings=NO_WINDOW, timeout=5) as connection:
        for _ in range(100):
            stream = connection.open(messages.REFLECTION)
            if not connection.upload(stream, request * 200, end=False, timeout=1):
                break
        connection.pump(3)
        check_grown(report, memory, "100 streams of 200 requests for the descriptors", 64)
    server.check_well(report)


# Messages that never end.


def hold_half_messages(server, endpoint, path, announced, sent, calls, connections, token=None):
    """Announces messages and sends only their beginnings. Returns the connections and their streams."""
    body = (struct.pack(">BI", 0, announced) + b"\x0a" + varint(announced) + b"x" * sent)[: sent + 5]
    held = []
    for number in range(connections):
        try:
            connection = Connection(endpoint, source=peers(1 + number // 10)[-1], timeout=5)
        except OSError:
            continue
        streams = []
        for _ in range(calls):
            stream = connection.open(path, token=token)
            streams.append(stream)
            if not connection.upload(stream, body, end=False, timeout=1) and connection.ended:
                break
        held.append((connection, streams))
    return held


def close_all(held):
    for connection, _ in held:
        connection.close()


@attack("M10", "Messages of 8 MiB that never end take less than 128 MiB, on one connection and on 60.", fresh=True)
def half_messages(server, report):
    for calls, connections, sent in [(60, 1, MAX_MESSAGE_BYTES - 100), (2, 60, 4 << 20)]:
        with MemoryWatch(server) as memory, HealthWatch(server) as health:
            held = hold_half_messages(
                server, server.grpc, messages.EMBED, MAX_MESSAGE_BYTES - 64, sent, calls, connections
            )
            time.sleep(1)
            check_grown(report, memory, f"{calls} calls on each of {connections} connections, {sent >> 20} MiB each")
            health.check(report)
        close_all(held)
        time.sleep(1)
    server.check_well(report)


@attack("M11", "Health checks with large messages, without a token, are refused and take less than 16 MiB.", fresh=True)
def large_health_checks(server, report):
    for endpoint, name in [(server.grpc, "service"), (server.health, "health")]:
        reply = call(endpoint, messages.HEALTH, field(1, "x" * (1 << 20)), token="")
        report.check(reply.code in REFUSED or reply.reset is not None, f"1 MiB to the {name} listener: {reply.code}")
        with MemoryWatch(server) as memory:
            held = hold_half_messages(server, endpoint, messages.HEALTH, 4 << 20, 3 << 20, 10, 4, token="")
            time.sleep(0.5)
            check_grown(report, memory, f"half messages to the {name} listener", 16)
        close_all(held)
    server.check_well(report)


@attack("M15", "A call whose message never ends is ended, also without a deadline.", slow=True)
def half_message_times_out(server, report):
    held = hold_half_messages(server, server.grpc, messages.EMBED, 100_000, 1000, 3, 1)
    held += hold_half_messages(server, server.health, messages.HEALTH, 100, 10, 3, 1, token="")
    held += hold_half_messages(server, server.grpc, messages.EMBED, 100_000, -4, 3, 1)
    started = time.monotonic()
    for connection, streams in held:
        connection.pump(
            max(0.1, 90 + started - time.monotonic()),
            until=lambda: all(connection.replies[stream].ended for stream in streams),
        )
        codes = [connection.replies[stream].code for stream in streams]
        ended = connection.ended or all(connection.replies[stream].ended for stream in streams)
        report.check(ended, f"after {time.monotonic() - started:.0f} s: {outcomes(codes)}, connection {connection.end}")
        connection.close()


@attack("M17", "HTTP bodies that are announced, and sent half or not at all, take less than 128 MiB.", fresh=True)
def half_bodies(server, report):
    for sent, count in [(0, 400), (MAX_MESSAGE_BYTES // 2, 100)]:
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (MAX_MESSAGE_BYTES - 10)
        )
        body = (b'{"model":"%s","input":"' % server.model.encode() + b"x" * sent)[:sent]
        held = []
        with MemoryWatch(server) as memory, HealthWatch(server) as health:
            for number in range(count):
                try:
                    connection = server.http.connect(1, peers(1 + number // 10)[-1])
                    held.append(connection)
                    connection.sendall(head + body)
                except OSError:
                    pass
            time.sleep(1)
            check_grown(report, memory, f"{count} bodies, {sent >> 20} of 8 MiB sent")
            health.check(report)
        for connection in held:
            connection.close()
        time.sleep(0.5)
    server.check_well(report)


@attack("M18", "Streams that stop in the middle of a message take less than 128 MiB.", fresh=True)
def half_streams(server, report):
    for path in (messages.EMBED_STREAM, messages.TOKENIZE_STREAM):
        with MemoryWatch(server) as memory:
            held = hold_half_messages(server, server.grpc, path, MAX_MESSAGE_BYTES - 64, 6 << 20, 10, 5)
            time.sleep(0.5)
            check_grown(report, memory, f"{path}, 50 streams with 6 of 8 MiB")
        close_all(held)
        time.sleep(0.5)
    server.check_well(report)


@attack("M20", "Lengths that are announced and not sent reserve nothing.")
def announced_lengths(server, report):
    with MemoryWatch(server) as memory, Connection(server.grpc) as connection:
        for _ in range(200):
            connection.upload(
                connection.open(messages.EMBED), struct.pack(">BI", 0, MAX_MESSAGE_BYTES - 1) + b"\x0a", end=False
            )
        connection.pump(1)
        check_grown(report, memory, "200 calls of 8 MiB announced, 1 byte sent", 20)


# Texts that grow when they are tokenized.


def tokenize_at_once(server, report, path, message, count, connections, limit):
    codes = []

    def attacker(number):
        with Connection(server.grpc, source=peers(connections)[number], timeout=120) as connection:
            streams = [connection.open(path) for _ in range(count // connections)]
            for stream in streams:
                connection.upload(stream, framed(message), timeout=60)
            codes.extend(connection.wait(stream, 60).code for stream in streams)

    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        together([lambda number=number: attacker(number) for number in range(connections)])
        check_grown(report, memory, f"{count} texts at once: {outcomes(codes)}", limit)
        health.check(report)
    report.check(set(codes) <= REFUSED | {"OK", "UNAVAILABLE"}, f"{outcomes(codes)}")
    server.check_well(report)


@attack("M12", "16 texts of 64 KiB of punctuation at once take less than 128 MiB.", fresh=True)
def punctuation(server, report):
    tokenize_at_once(server, report, messages.EMBED, messages.embed([PUNCTUATION], skip_cache=1), 16, 4, FAIR_MIB)


@attack("M13", "240 such texts at once take less than 200 MiB, in every method that tokenizes.", fresh=True)
def punctuation_of_many(server, report):
    for path, message in [
        (messages.COUNT_TOKENS, messages.count_tokens([PUNCTUATION])),
        (messages.TOKENIZE, messages.tokenize(PUNCTUATION)),
        (messages.EMBED, messages.embed([PUNCTUATION], skip_cache=1)),
    ]:
        report.note(path)
        tokenize_at_once(server, report, path, message, 240, 8, 200)


@attack(
    "M14",
    "Requests of 127 texts of 64 KiB, and texts whose normal form is 18 times as long, take less than 200 MiB.",
    fresh=True,
)
def large_requests(server, report):
    longer = "\ufdfa" * (MAX_TEXT_BYTES // 3)
    for text in (PUNCTUATION, longer):
        texts = [f"{number}{text}".encode()[: MAX_TEXT_BYTES - 3].decode(errors="ignore") for number in range(120)]
        tokenize_at_once(server, report, messages.COUNT_TOKENS, messages.count_tokens(texts), 8, 4, 200)
