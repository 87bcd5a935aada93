"""Servers that refuse a call that clients must repeat."""

import contextlib
import socket

from clients.suite import expect

QUOTA = 20


def with_quota(servers):
    """A server whose token may embed `QUOTA` texts a second: it answers the next call with 429."""
    return servers.program.start(tokens=[f"token-with-a-quota texts_per_second={QUOTA}"])


@contextlib.contextmanager
def without_capacity(servers):
    """A server whose only connection for calls is in use, and a function that gives it back: until then, it answers
    with 503."""
    with servers.program.start("--max-connections", "1") as server:
        host, port = server.http.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 15"
            body = b'{"input": "hi"}'
            connection.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
            # Until the server waits for the body, the connection is idle and would give way to another one.
            expect(connection.recv(1 << 16).startswith(b"HTTP/1.1 100 "), "the server asks for the body")

            def finish():
                connection.sendall(body)
                connection.recv(1 << 16)
                connection.close()

            yield server, finish
