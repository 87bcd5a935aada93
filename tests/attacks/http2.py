"""H: HTTP/2 frames, most of them before a call has reached a handler or a token has been checked."""

import random
import struct
import time

from attacks import messages
from attacks.messages import framed
from attacks.server import HealthWatch, MemoryWatch
from attacks.suite import attack
from attacks.wire import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Connection,
    frame,
    header_block,
    prefixed_integer,
)

# hyper's own default, which the server must not turn off.
MAX_PROVOKED_RESETS = 1024


def provoke_resets(connection, count):
    """Sends data on streams that were never opened; each is answered by a reset. Returns the number sent."""
    connection.pump(0.2)
    connection.skip_to(2 * count + 1)
    connection.open(messages.HEALTH)
    for sent, stream in enumerate(range(1, 2 * count, 2)):
        if connection.ended or not connection.send(frame(DATA, 0, stream)):
            return sent
        if sent % 100 == 0:
            connection.pump(0.002)
    return count


@attack("H01", "A connection ends before a client provokes 1,100 resets (RUSTSEC-2024-0003), on every listener.")
def provoked_resets(server, report):
    for name, endpoint in [("service", server.grpc), ("admin", server.admin), ("health", server.health)]:
        with Connection(endpoint) as connection:
            provoke_resets(connection, 5000)
            connection.pump(5, until=lambda: connection.ended)
            report.check(
                connection.ended and len(connection.resets) < MAX_PROVOKED_RESETS + 76,
                f"{name} listener: {len(connection.resets)} resets, then {connection.end}",
            )
    server.check_well(report)


@attack("H02", "Provoked resets that the client never reads take less than 20 MiB.", fresh=True)
def unread_resets(server, report):
    with MemoryWatch(server) as memory:
        connections = []
        for _ in range(4):
            connection = Connection(server.grpc, receive_buffer=4096, timeout=5)
            connections.append(connection)
            connection.pump(0.2)
            connection.skip_to(100_001)
            connection.open(messages.HEALTH)
            for first in range(1, 100_000, 2000):
                if not connection.send(b"".join(frame(DATA, 0, stream) for stream in range(first, first + 2000, 2))):
                    break
        time.sleep(1)
        report.check(memory.grown < 20, f"4 connections, up to 50,000 frames of 9 bytes each: {memory.grown:.0f} MiB")
    for connection in connections:
        connection.close()
    server.check_well(report)


@attack("H03", "A connection that opens and cancels calls at full speed is ended or slowed; health is answered.")
def rapid_reset(server, report):
    message = framed(messages.embed(["rapid"], skip_cache=1))
    with HealthWatch(server) as health, Connection(server.grpc) as connection:
        before = server.cpu_seconds()
        sent = 0
        while sent < 20_000 and not connection.ended:
            batch = b""
            for _ in range(10):
                stream = connection.new_stream()
                batch += frame(HEADERS, END_HEADERS, stream, connection.request_headers(messages.EMBED))
                batch += frame(DATA, END_STREAM, stream, message) + frame(
                    RST_STREAM, 0, stream, struct.pack(">I", CANCEL)
                )
                sent += 1
            connection.send(batch)
            connection.pump(0.001)
        spent = server.cpu_seconds() - before
        report.check(connection.ended, f"{sent} calls cancelled, {spent:.1f} s of CPU, connection {connection.end}")
        health.check(report)
    server.check_well(report)


@attack("H04", "A client that cancels 200 calls at once keeps its connection, and its other call is answered.")
def cancel_many(server, report):
    with Connection(server.grpc) as connection:
        healthy = connection.open(messages.EMBED)
        connection.pump(0.2)
        streams = [connection.new_stream() for _ in range(200)]
        headers = connection.request_headers(messages.EMBED)
        opened = b"".join(frame(HEADERS, END_HEADERS, stream, headers) for stream in streams)
        cancelled = b"".join(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)) for stream in streams)
        # In one piece: the server sees the resets before it has accepted the streams.
        connection.send(opened + cancelled)
        connection.upload(healthy, framed(messages.embed(["the healthy call"])))
        reply = connection.wait(healthy, 30)
        report.check(reply.code == "OK", f"the other call: {reply.code}, connection {connection.end}")
    server.check_well(report)


@attack("H05", "An endless block of headers (CONTINUATION) ends the connection within 100 frames.")
def continuation_flood(server, report):
    with MemoryWatch(server) as memory, Connection(server.grpc) as connection:
        connection.send(frame(HEADERS, 0, 1, connection.request_headers(messages.HEALTH)))
        sent = 0
        while sent < 2000 and not connection.ended:
            connection.send(frame(CONTINUATION, 0, 1, header_block([(f"x-{sent}", "y" * 8000)])))
            sent += 1
            if sent % 10 == 0:
                connection.pump(0.01)
        report.check(sent < 100, f"{sent} frames of 8 KB accepted, connection {connection.end}")
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")


@attack("H06", "Headers that are small on the wire and 16 MB when decoded (an HPACK bomb) are refused.")
def hpack_bomb(server, report):
    with MemoryWatch(server) as memory, Connection(server.grpc) as connection:
        connection.pump(0.2)
        # Puts one entry of 3,900 bytes into the dynamic table, and then names it 4,000 times in one byte each.
        entry = b"\x40" + prefixed_integer(3, 7) + b"x-a" + prefixed_integer(3900, 7) + b"y" * 3900
        block = connection.request_headers(messages.HEALTH) + entry + b"\xbe" * 4000
        stream = connection.new_stream()
        connection.send(frame(HEADERS, END_HEADERS, stream, block))
        reply = connection.wait(stream, 5)
        refused = reply.code == "HTTP 431" or reply.reset is not None or connection.ended
        report.check(refused, f"{reply.code}, connection {connection.end}")
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")


@attack("H07", "15 KB of metadata are accepted; 20 KB and 60 KB get HTTP 431.")
def header_sizes(server, report):
    for size in (15_000, 20_000, 60_000):
        with Connection(server.grpc) as connection:
            connection.pump(0.1)
            block = connection.request_headers(messages.HEALTH, extra=[("x-large", "y" * size)])
            parts = [block[at : at + 16000] for at in range(0, len(block), 16000)]
            stream = connection.new_stream()
            for number, part in enumerate(parts):
                kind = CONTINUATION if number else HEADERS
                connection.send(frame(kind, END_HEADERS if number + 1 == len(parts) else 0, stream, part))
            connection.upload(stream, framed(b""))
            reply = connection.wait(stream, 5)
            refused = reply.code == "HTTP 431" or reply.reset is not None or connection.ended
            report.check(
                reply.code == "OK" if size == 15_000 else refused,
                f"{size} bytes: {reply.code}, connection {connection.end}",
            )


FLOODS = {
    "PING": frame(PING, 0, 0, b"12345678"),
    "SETTINGS": frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 65535)),
    "PRIORITY": frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)),
    "frames of an unknown type": frame(0xEE, 0xFF, 1, b"12345678"),
}


@attack("H08", "300,000 control frames of a client that reads nothing take less than 20 MiB; health is answered.")
def control_frame_floods(server, report):
    for name, piece in FLOODS.items():
        with MemoryWatch(server) as memory, HealthWatch(server) as health:
            with Connection(server.grpc, receive_buffer=4096, timeout=3) as connection:
                sent = 0
                while sent < 300_000 and connection.send(piece * 1000):
                    sent += 1000
                grown = memory.grown
            report.check(grown < 20, f"{sent} times {name}: memory grew by {grown:.0f} MiB")
            health.check(report)
    server.check_well(report)


@attack("H09", "10,000 PING replies that nobody asked for cause less than 100 log lines.")
def log_flood_by_pings(server, report):
    before = server.log_lines()
    with Connection(server.grpc) as connection:
        connection.send(frame(PING, ACK, 0, b"unasked!") * 10_000)
        connection.pump(2)
    # The server may sum up what it suppressed.
    time.sleep(1)
    report.check(server.log_lines() - before < 100, f"{server.log_lines() - before} log lines")


@attack("H11", "Empty DATA frames without end are stopped within 200,000 frames.")
def empty_data(server, report):
    with Connection(server.grpc) as connection:
        stream = connection.open(messages.EMBED)
        sent = 0
        while sent < 200_000 and not connection.ended and not connection.replies[stream].ended:
            connection.send(frame(DATA, 0, stream) * 1000)
            connection.pump(0.002)
            sent += 1000
        connection.pump(1, until=lambda: connection.ended)
        report.check(connection.ended or connection.replies[stream].ended, f"{sent} frames, then {connection.end}")
    server.check_well(report)


@attack(
    "H12",
    "A message of 60 KB in frames of one byte is answered, or its connection ended; it takes less than 5 s of CPU.",
)
def tiny_frames(server, report):
    before = server.cpu_seconds()
    with Connection(server.grpc) as connection:
        connection.pump(0.1)
        stream = connection.open(messages.EMBED)
        body = framed(messages.embed(["word " * 12_000]))
        for at in range(0, len(body), 1000):
            part = body[at : at + 1000]
            connection.send(b"".join(frame(DATA, 0, stream, part[n : n + 1]) for n in range(len(part))))
            connection.pump(0.001)
        connection.send(frame(DATA, END_STREAM, stream))
        reply = connection.wait(stream, 30)
        report.check(reply.code == "OK" or connection.ended, f"{reply.code}, connection {connection.end}")
    spent = server.cpu_seconds() - before
    report.check(spent < 5, f"{spent:.2f} s of CPU")


@attack("H13", "Changing the window of 200 open streams without pause does not delay health.")
def window_changes(server, report):
    change = [frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, size)) for size in (0, 1 << 30)]
    with HealthWatch(server) as health, Connection(server.grpc) as connection:
        for _ in range(200):
            connection.open(messages.EMBED)
        connection.pump(0.2)
        sent = 0
        end = time.monotonic() + 4
        while time.monotonic() < end and connection.send(b"".join(change) * 50):
            connection.pump(0.001)
            sent += 100
        report.note(f"{sent} changes")
        health.check(report)


BROKEN_FRAMES = {
    "WINDOW_UPDATE of 0 on a stream": lambda connection, stream: frame(WINDOW_UPDATE, 0, stream, bytes(4)),
    "WINDOW_UPDATE of 0 on the connection": lambda connection, stream: frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "a window beyond 2^31": lambda connection, stream: frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff") * 2,
    "DATA on stream 0": lambda connection, stream: frame(DATA, 0, 0, b"x"),
    "HEADERS on stream 0": lambda connection, stream: frame(HEADERS, END_HEADERS, 0, headers(connection)),
    "an even stream": lambda connection, stream: frame(HEADERS, END_HEADERS, 2, headers(connection)),
    "a lower stream": lambda connection, stream: b"".join(
        frame(HEADERS, END_HEADERS, id, headers(connection)) for id in (101, 51)
    ),
    "PUSH_PROMISE": lambda connection, stream: frame(
        PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", 2) + headers(connection)
    ),
    "SETTINGS of 5 bytes": lambda connection, stream: frame(SETTINGS, 0, 0, b"12345"),
    "SETTINGS_MAX_FRAME_SIZE of 1": lambda connection, stream: frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)),
    "a frame beyond the limit": lambda connection, stream: frame(DATA, 0, stream, b"x" * 70_000),
    "RST_STREAM of an idle stream": lambda connection, stream: frame(RST_STREAM, 0, 999, struct.pack(">I", CANCEL)),
    "padding longer than the frame": lambda connection, stream: frame(DATA, 0x8, stream, b"\xffx"),
    "HEADERS that depend on themselves": lambda connection, stream: frame(
        HEADERS, END_HEADERS | 0x20, 201, struct.pack(">IB", 201, 0) + headers(connection)
    ),
    "an HPACK index out of range": lambda connection, stream: frame(HEADERS, END_HEADERS, 201, b"\xff\xff\xff\xff\x0f"),
    "no :path": lambda connection, stream: frame(
        HEADERS, END_HEADERS, 201, header_block([(":method", "POST"), (":scheme", "http")])
    ),
    "an upper-case name": lambda connection, stream: frame(
        HEADERS, END_HEADERS, 201, headers(connection) + header_block([("X-Upper", "1")])
    ),
    "a connection header": lambda connection, stream: frame(
        HEADERS, END_HEADERS, 201, headers(connection) + header_block([("connection", "close")])
    ),
    "two content-lengths": lambda connection, stream: frame(
        HEADERS,
        END_HEADERS,
        201,
        headers(connection) + header_block([("content-length", "5"), ("content-length", "6")]),
    ),
    "CONTINUATION without HEADERS": lambda connection, stream: frame(CONTINUATION, END_HEADERS, stream),
    "GOAWAY with 10 KB of debug data": lambda connection, stream: frame(GOAWAY, 0, 0, bytes(8) + b"x" * 10_000),
}


def headers(connection):
    return connection.request_headers(messages.HEALTH)


@attack("H14", "Frames that break the protocol end their stream or connection; nothing panics.")
def broken_frames(server, report):
    before = server.log().count("panicked")
    for name, broken in BROKEN_FRAMES.items():
        with Connection(server.grpc) as connection:
            connection.pump(0.05)
            stream = connection.open(messages.EMBED)
            connection.send(broken(connection, stream))
            connection.pump(0.3, until=lambda: connection.ended)
            report.note(f"{name}: connection {connection.end}, resets {connection.resets[:2]}")
    report.check(server.log().count("panicked") == before, "no panic in the log")
    server.check_well(report)


@attack("H15", "500 random sequences of frames leave no panic, no descriptor and no thread behind.")
def random_frames(server, report):
    draw = random.Random(13)
    before = server.open_files()
    for _ in range(500):
        with Connection(server.grpc) as connection:
            parts = []
            for _ in range(draw.randrange(1, 20)):
                payload = draw.choice(
                    [
                        b"",
                        connection.request_headers(messages.EMBED),
                        framed(messages.embed(["x"])),
                        draw.randbytes(draw.randrange(64)),
                        struct.pack(">I", draw.getrandbits(32)),
                    ]
                )
                kind = draw.choice(
                    [
                        DATA,
                        DATA,
                        HEADERS,
                        HEADERS,
                        PRIORITY,
                        RST_STREAM,
                        SETTINGS,
                        PING,
                        GOAWAY,
                        WINDOW_UPDATE,
                        CONTINUATION,
                        draw.randrange(256),
                    ]
                )
                stream = draw.choice([0, 1, 3, 5, 7, 2, draw.getrandbits(31)])
                parts.append(frame(kind, draw.choice([0, 1, 4, 5, 8, 0x20, draw.randrange(256)]), stream, payload))
            connection.send(b"".join(parts))
            connection.pump(0.002)
    report.check("panicked" not in server.log(), "no panic in the log")
    time.sleep(1)
    left = server.open_files() - before
    report.check(left < 20, f"{left} descriptors left open")
    server.check_well(report)


@attack("H16", "Streams beyond the limit of the connection get REFUSED_STREAM, and the others go on.")
def too_many_streams(server, report):
    limit = messages.parse(messages.parse(server.call(messages.GET_MODEL).messages[0])[9][0])[4][0]
    with Connection(server.grpc) as connection:
        first = connection.open(messages.EMBED)
        for _ in range(limit + 43):
            connection.open(messages.EMBED)
        connection.pump(1)
        refused = sum(reason == REFUSED_STREAM for _, reason in connection.resets)
        report.check(
            refused == 44 or connection.ended,
            f"{limit} allowed, {limit + 44} opened: {refused} refused, connection {connection.end}",
        )
        if not connection.ended:
            connection.upload(first, framed(messages.embed(["the first call"])))
            report.check(connection.wait(first).code == "OK", "the first call is answered")


@attack("H17", "A client that does not speak HTTP/2 is disconnected within 20 s.")
def slow_preface(server, report):
    openings = {"nothing": b"", "5 bytes of the preface": PREFACE[:5], "HTTP/1.1": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"}
    # Opened together, so that they wait together.
    connections = {name: server.grpc.connect(20) for name in openings}
    started = time.monotonic()
    for name, connection in connections.items():
        connection.sendall(openings[name])
    for name, connection in connections.items():
        report.check(is_closed(connection, started + 20), f"{name}: closed within 20 s")
        connection.close()


def is_closed(connection, deadline):
    """Whether the server closes the connection in time. What it sends is ignored."""
    while time.monotonic() < deadline:
        try:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if not connection.recv(4096):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


@attack(
    "H18",
    "A client that falls silent within a block of headers is disconnected by the keepalive.",
    flags=["--keepalive-interval", "2s", "--keepalive-timeout", "2s"],
)
def half_headers(server, report):
    with Connection(server.grpc) as connection:
        connection.pump(0.1)
        connection.send(frame(HEADERS, 0, 1, connection.request_headers(messages.HEALTH)))
        started = time.monotonic()
        # Not `pump`: it would answer the server's pings.
        while not connection.closed and time.monotonic() - started < 30:
            try:
                connection.socket.settimeout(1)
                connection.closed = not connection.socket.recv(4096)
            except TimeoutError:
                pass
            except OSError:
                connection.closed = True
        report.check(connection.closed, f"{connection.end} after {time.monotonic() - started:.0f} s")


@attack("H19", "The HTTP port has the same limits where it speaks HTTP/2.")
def http_port(server, report):
    with MemoryWatch(server) as memory, Connection(server.http) as connection:
        connection.pump(1, until=lambda: connection.settings_received)
        if not connection.settings_received:
            report.check(connection.closed, f"it does not speak HTTP/2: {connection.end}")
            return
        provoke_resets(connection, 5000)
        connection.pump(5, until=lambda: connection.ended)
        report.check(
            connection.ended and len(connection.resets) < MAX_PROVOKED_RESETS + 76,
            f"{len(connection.resets)} resets, then {connection.end}",
        )
        report.check(memory.grown < 20, f"memory grew by {memory.grown:.0f} MiB")
