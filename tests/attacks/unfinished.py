"""M: memory for messages and bodies that never end."""

import struct
import time

from attacks import messages
from attacks.connections import peers
from attacks.messages import MAX_MESSAGE_BYTES, field, varint
from attacks.server import HealthWatch, MemoryWatch
from attacks.suite import REFUSED, attack, check_grown, outcomes
from attacks.wire import Connection, call


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
        # The server may stop reading; then it is at its limit.
        enough = time.monotonic() + 8 / connections
        for _ in range(calls):
            stream = connection.open(path, token=token)
            streams.append(stream)
            connection.upload(stream, body, end=False, timeout=1)
            if connection.ended or time.monotonic() > enough:
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
