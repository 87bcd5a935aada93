"""M: memory for replies that nobody reads."""

import json
import struct
import time

from attacks import messages
from attacks.connections import peers
from attacks.messages import PUNCTUATION, field, framed
from attacks.server import HealthWatch, MemoryWatch
from attacks.suite import FAIR_MIB, attack, check_grown
from attacks.wire import INITIAL_WINDOW_SIZE, WINDOW_UPDATE, Connection, frame

NO_WINDOW = [(INITIAL_WINDOW_SIZE, 0)]


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
            # The server may stop reading; then it is at its limit.
            enough = time.monotonic() + 8 / connections
            for _ in range(calls):
                connection.upload(connection.open(path), framed(message), timeout=1)
                if connection.ended or time.monotonic() > enough:
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
