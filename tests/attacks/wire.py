"""A raw HTTP/2 client that may break every rule."""

import collections
import dataclasses
import socket
import ssl
import struct
import time

import hpack

from attacks.messages import framed, unframed

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE = 4
CANCEL, REFUSED_STREAM, ENHANCE_YOUR_CALM = 0x8, 0x7, 0xB
MAX_FRAME = 16384
CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED"
).split()


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An address, and how to authenticate there."""

    host: str
    port: int
    token: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def address(self):
        return self.host, self.port

    def connect(self, timeout=10, source=None, receive_buffer=None):
        """A TCP connection, without TLS. `source` is the client's address; all of 127.0.0.0/8 is local."""
        connection = socket.socket()
        try:
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                connection.bind((source, 0))
            connection.settimeout(timeout)
            connection.connect(self.address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connection.close()
            raise
        return connection


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(headers):
    """Headers as literals that are neither indexed nor compressed, so that the encoder has no state."""

    def literal(value):
        value = value.encode() if isinstance(value, str) else value
        return prefixed_integer(len(value), 7) + value

    return b"".join(b"\x00" + literal(name) + literal(value) for name, value in headers)


def prefixed_integer(number, bits, first=0):
    """An integer of HPACK (RFC 7541, 5.1)."""
    limit = (1 << bits) - 1
    if number < limit:
        return bytes([first | number])
    out = bytearray([first | limit])
    number -= limit
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    out.append(number)
    return bytes(out)


class Reply:
    """What has come for one stream."""

    def __init__(self):
        self.headers = {}
        self.trailers = {}
        self.data = b""
        self.reset = None
        self.ended = False

    @property
    def code(self):
        """The name of the gRPC status, or how else the stream ended."""
        status = self.trailers.get("grpc-status", self.headers.get("grpc-status"))
        if status is not None:
            return CODES[int(status)] if int(status) < len(CODES) else status
        if self.reset is not None:
            return f"RST_STREAM({self.reset})"
        if self.headers.get(":status", "200") != "200":
            return f"HTTP {self.headers[':status']}"
        return "NONE"

    @property
    def message(self):
        return self.trailers.get("grpc-message", self.headers.get("grpc-message", ""))

    @property
    def details(self):
        return self.trailers.get("grpc-status-details-bin", self.headers.get("grpc-status-details-bin", ""))

    @property
    def messages(self):
        return unframed(self.data)


class Connection:
    """One HTTP/2 connection. It reads and answers only in `pump`, and in what calls it."""

    def __init__(self, endpoint, *, settings=(), preface=True, source=None, receive_buffer=None, timeout=10):
        self.endpoint = endpoint
        self.timeout = timeout
        self.socket = endpoint.connect(timeout, source, receive_buffer)
        if endpoint.tls:
            try:
                self.socket = endpoint.tls.wrap_socket(self.socket, server_hostname="localhost")
            except OSError:
                self.socket.close()
                raise
        self.replies = collections.defaultdict(Reply)
        self.goaway = None
        self.closed = False
        self.resets = []
        # Attacks that do not let replies flow turn this off.
        self.returns_window = True
        self._next = 1
        self._buffer = b""
        self._block = None
        self._decoder = hpack.Decoder(max_header_list_size=1 << 24)
        self._initial_window = 65535
        self._windows = {}
        self._window = 65535
        self.settings_received = False
        if preface:
            payload = b"".join(struct.pack(">HI", name, value) for name, value in settings)
            self.send(PREFACE + frame(SETTINGS, 0, 0, payload))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def ended(self):
        """Whether the server has closed the connection, or announced it."""
        return self.closed or self.goaway is not None

    @property
    def end(self):
        """How the connection ended, for reports."""
        if self.goaway is not None:
            return f"GOAWAY({self.goaway[0]})"
        return "closed" if self.closed else "open"

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def send(self, data):
        """Sends bytes as they are. False if the server has closed the connection or does not read."""
        if self.closed:
            return False
        try:
            self.socket.settimeout(self.timeout)
            self.socket.sendall(data)
        except OSError:
            self.closed = True
        return not self.closed

    def request_headers(
        self, path, *, timeout=None, token=None, extra=(), method="POST", content_type="application/grpc"
    ):
        headers = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        headers += [("content-type", content_type), ("te", "trailers")]
        if timeout:
            headers.append(("grpc-timeout", timeout))
        token = self.endpoint.token if token is None else token
        if token:
            headers.append(("authorization", f"Bearer {token}"))
        return header_block(headers + list(extra))

    def new_stream(self):
        stream = self._next
        self._next += 2
        return stream

    def skip_to(self, stream):
        """Uses this stream next: all lower ones that were never opened are closed from then on."""
        self._next = stream

    def open(self, path, end=False, **headers):
        """Sends the headers of a call. Returns its stream."""
        stream = self.new_stream()
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.send(frame(HEADERS, flags, stream, self.request_headers(path, **headers)))
        return stream

    def upload(self, stream, payload, end=True, timeout=60):
        """Sends data as the server's flow control allows. False if the stream or connection ended, or on timeout."""
        deadline = time.monotonic() + timeout
        if not self.settings_received:
            self.pump(1, until=lambda: self.settings_received)
        if not payload and end:
            return self.send(frame(DATA, END_STREAM, stream))
        at = 0
        while at < len(payload):
            if self.ended or self.replies[stream].ended or time.monotonic() > deadline:
                return False
            room = min(self._room(stream), MAX_FRAME, len(payload) - at)
            if room <= 0:
                self.pump(0.05, until=lambda: self._room(stream) > 0 or self.replies[stream].ended)
                continue
            last = at + room >= len(payload)
            if not self.send(frame(DATA, END_STREAM if end and last else 0, stream, payload[at : at + room])):
                return False
            self._windows[stream] = self._stream_window(stream) - room
            self._window -= room
            at += room
        return True

    def _room(self, stream):
        return min(self._stream_window(stream), self._window)

    def _stream_window(self, stream):
        return self._windows.get(stream, self._initial_window)

    def start(self, path, message, upload_timeout=60, **headers):
        """Sends a whole call. Returns its stream."""
        stream = self.open(path, **headers)
        self.upload(stream, framed(message), timeout=upload_timeout)
        return stream

    def wait(self, stream, timeout=30):
        reply = self.replies[stream]
        self.pump(timeout, until=lambda: reply.ended)
        return reply

    def call(self, path, message=b"", wait=30, **headers):
        """A unary call up to its end."""
        return self.wait(self.start(path, message, upload_timeout=wait, **headers), wait)

    def pump(self, seconds=0.0, until=None):
        """Reads what comes within the time, and answers it as a polite client does."""
        deadline = time.monotonic() + seconds
        while not self.closed:
            if until and until():
                return
            left = deadline - time.monotonic()
            try:
                self.socket.settimeout(max(0.001, left))
                received = self.socket.recv(1 << 18)
            except (TimeoutError, ssl.SSLWantReadError):
                return
            except OSError:
                self.closed = True
                return
            if not received:
                self.closed = True
                return
            self._buffer += received
            self._take_frames()
            if not until and time.monotonic() >= deadline:
                return

    def _take_frames(self):
        at = 0
        buffer = self._buffer
        while len(buffer) - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", buffer[at + 3 : at + 9])
            payload = buffer[at + 9 : at + 9 + length]
            at += 9 + length
            self._take_frame(kind, flags, stream & 0x7FFFFFFF, payload)
        self._buffer = buffer[at:]

    def _take_frame(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            more = struct.unpack(">I", payload)[0]
            if stream == 0:
                self._window += more
            else:
                self._windows[stream] = self._stream_window(stream) + more
        elif kind == GOAWAY:
            self.goaway = (struct.unpack(">I", payload[4:8])[0], payload[8:].decode("latin1"))
        elif kind == RST_STREAM:
            reply = self.replies[stream]
            reply.reset = struct.unpack(">I", payload)[0]
            reply.ended = True
            self.resets.append((stream, reply.reset))
        elif kind == DATA:
            self._take_data(flags, stream, payload)
        elif kind in (HEADERS, CONTINUATION):
            self._take_headers(kind, flags, stream, payload)

    def _take_settings(self, payload):
        for at in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[at : at + 6])
            if name == INITIAL_WINDOW_SIZE:
                change = value - self._initial_window
                self._initial_window = value
                self._windows = {stream: window + change for stream, window in self._windows.items()}
        self.settings_received = True
        self.send(frame(SETTINGS, ACK, 0))

    def _take_data(self, flags, stream, payload):
        reply = self.replies[stream]
        reply.data += payload
        reply.ended |= bool(flags & END_STREAM)
        if self.returns_window and payload:
            update = struct.pack(">I", len(payload))
            self.send(frame(WINDOW_UPDATE, 0, 0, update) + frame(WINDOW_UPDATE, 0, stream, update))

    def _take_headers(self, kind, flags, stream, payload):
        block = (self._block or b"") + payload
        if not flags & END_HEADERS:
            self._block = block
            return
        self._block = None
        decoded = {
            name.decode("latin1"): value.decode("latin1") for name, value in self._decoder.decode(block, raw=True)
        }
        reply = self.replies[stream]
        (reply.trailers if reply.headers else reply.headers).update(decoded)
        reply.ended |= bool(flags & END_STREAM) if kind == HEADERS else "grpc-status" in decoded


def call(endpoint, path, message=b"", wait=30, source=None, **headers):
    """One call on a connection of its own."""
    with Connection(endpoint, source=source, timeout=wait) as connection:
        return connection.call(path, message, wait=wait, **headers)
