"""The servers of a client: their channels, and which of them the next attempt is sent to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from embedd._addresses import Address
from embedd._parts import MAX_REPLY_BYTES

#: How many seconds a server that failed is skipped, if another one is healthy.
_BACKOFF = 1.0
_USER_AGENT = "embedd-python"

_C = TypeVar("_C")


@dataclass(frozen=True)
class Credentials:
    """How a client connects."""

    root_certificates: bytes | None
    #: The certificate chain and its private key.
    client_certificate: tuple[bytes, bytes] | None

    def check(self, addresses: Sequence[Address]) -> None:
        """Raises ValueError if an address that would not use TLS is given certificates."""
        plain = [str(address) for address in addresses if not address.secure]
        if plain and (self.root_certificates is not None or self.client_certificate is not None):
            raise ValueError(
                f"certificates are given, but {plain[0]} is called without TLS; "
                "begin its address with `https://` (or `dns+https:///`)"
            )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """The credentials of a channel with TLS."""
        certificate, key = self.client_certificate or (None, None)
        return grpc.ssl_channel_credentials(self.root_certificates, key, certificate)


def channel_options(address: Address) -> list[tuple[str, Any]]:
    """The options of a channel, for blocking and asynchronous calls alike."""
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", _USER_AGENT),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
        # By default, a channel waits up to two minutes before it reconnects.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # This is also the time limit for a connection attempt.
        ("grpc.min_reconnect_backoff_ms", 5000),
        # A connection with calls in flight is pinged after 10 seconds of silence, so that a dead one is noticed.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    if address.resolve_all:
        # Calls go to all addresses of the name in turn, except to servers that are not ready.
        service = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
        options.append(("grpc.service_config", json.dumps(service)))
    return options


def target(address: Address) -> str:
    """The target of a channel."""
    return f"dns:///{address.host_port}"


@dataclass(eq=False)
class Server(Generic[_C]):
    """A server, and whether it is skipped. `connection` holds the channel and its stubs."""

    name: str
    connection: _C
    #: The time until which the server is skipped, if it has failed and has not answered since.
    skipped_until: float | None = None


class Servers(Generic[_C]):
    """All servers of a client. Threads may share them."""

    def __init__(self, servers: Sequence[Server[_C]], clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = list(servers)
        self._clock = clock
        self._next = 0
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Server[_C]]:
        return iter(self._servers)

    def pick(self) -> Server[_C]:
        """Healthy servers take turns. If there are none, the one that is skipped for the shortest time is chosen."""
        with self._lock:
            now = self._clock()
            healthy = [server for server in self._servers if (server.skipped_until or now) <= now]
            if not healthy:
                return min(self._servers, key=lambda server: server.skipped_until or now)
            server = healthy[self._next % len(healthy)]
            self._next += 1
            if server.skipped_until is not None:
                # One call tries whether the server is healthy again; until it answers, others skip it.
                server.skipped_until = now + _BACKOFF
            return server

    def answered(self, server: Server[_C]) -> None:
        """Records that the server is healthy."""
        server.skipped_until = None

    def failed(self, server: Server[_C]) -> bool:
        """Records that the server is unavailable. Returns whether this is the first failure since it last answered."""
        with self._lock:
            first = server.skipped_until is None
            server.skipped_until = self._clock() + _BACKOFF
            return first

    def any_healthy(self) -> bool:
        """Whether a server is not skipped."""
        now = self._clock()
        return any((server.skipped_until or now) <= now for server in self._servers)
