"""Server addresses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_FORMS = "use host:port, https://host:port, dns:///host:port or dns+https:///host:port"


@dataclass(frozen=True)
class Address:
    """One server, or a name that resolves to several."""

    host_port: str
    #: Whether connections use TLS.
    secure: bool
    #: Whether every address of the name is a separate server.
    resolve_all: bool

    def __str__(self) -> str:
        return self.host_port


def parse_addresses(servers: str | Iterable[str]) -> list[Address]:
    """Parses one or more addresses. In a string, commas separate them.

    Raises ValueError.
    """
    parts = servers.split(",") if isinstance(servers, str) else list(servers)
    if not parts:
        raise ValueError(f"no server address given; {_FORMS}")
    return [_parse(part.strip()) for part in parts]


def _parse(server: str) -> Address:
    def invalid(reason: str) -> ValueError:
        return ValueError(f"`{server}` is not a server address: {reason}; {_FORMS}")

    scheme, separator, rest = server.rpartition("://")
    resolve_all = scheme in ("dns", "dns+https")
    if separator and not resolve_all and scheme not in ("http", "https"):
        raise invalid("unknown scheme")
    if resolve_all:
        if not rest.startswith("/"):
            raise invalid("a name server cannot be chosen")
        rest = rest[1:]
    try:
        url = urlsplit(f"//{rest}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise invalid(str(error)) from None
    if not host or any(character.isspace() for character in host):
        raise invalid("the host is missing")
    if url.path.strip("/") or url.query or url.fragment or url.username is not None:
        raise invalid("unexpected path")
    secure = scheme in ("https", "dns+https")
    if port is None:
        if resolve_all or not separator:
            raise invalid("the port is missing")
        port = 443 if secure else 80
    host = f"[{host}]" if ":" in host else host
    return Address(f"{host}:{port}", secure, resolve_all)
