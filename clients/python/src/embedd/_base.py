"""What the blocking and the asynchronous client have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from embedd import _messages
from embedd._addresses import parse_addresses
from embedd._call import Deadline, Metadata
from embedd._failure import for_whole_request
from embedd._parts import Part, PartLimits
from embedd._retry import Retries, RetryPolicy
from embedd._servers import Credentials
from embedd.errors import EmbeddError, InvalidRequestError
from embedd.options import EmbedOptions
from embedd.results import Embedding, Model

DEFAULT_ADDRESS = "localhost:50051"
#: The maximum number of parts of one request in flight.
PARTS_IN_FLIGHT = 4
#: The maximum number of texts in one request of a stream.
STREAM_TEXTS = 16
#: The maximum number of requests of a stream in flight.
STREAM_REQUESTS = 8
#: The maximum seconds to wait for the answer to a health check.
HEALTH_TIMEOUT = 5.0

#: A text of a stream, with its embedding or the reason why the server rejected it.
StreamItem = tuple[str, Embedding | InvalidRequestError]


class ClientSettings(TypedDict, total=False):
    """The settings of a client, except its address."""

    token: str | None
    root_certificates: bytes | None
    client_certificate: tuple[bytes, bytes] | None
    deadline: float | None
    max_retries: int
    retry_budget: int
    options: EmbedOptions | None


class BaseClient:
    """The settings of a client, and the limits of its servers once they are known."""

    def __init__(
        self,
        address: str | Iterable[str] = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        root_certificates: bytes | None = None,
        client_certificate: tuple[bytes, bytes] | None = None,
        deadline: float | None = None,
        max_retries: int = 4,
        retry_budget: int = 50,
        options: EmbedOptions | None = None,
    ) -> None:
        """Does not connect: the first call does.

        address: `host:port`; with TLS, `https://host:port`. Separate several with commas, or pass a list; calls go to
            each of them in turn. `dns:///host:port` (with TLS, `dns+https:///host:port`) means every address of a
            name.
        token: the bearer token sent with every call.
        root_certificates: PEM certificates of the authorities that sign the servers' certificates; by default those
            that gRPC trusts.
        client_certificate: the client's certificate chain and its private key, both in PEM.
        deadline: the maximum seconds for a call, with all its retries and parts. Calls can override it.
        max_retries: how often a call is sent again at most.
        retry_budget: how many rejected attempts all calls together may retry; each successful call returns a tenth.
        options: the options of calls that do not set them.

        Raises ValueError.
        """
        if max_retries < 0 or retry_budget < 0:
            raise ValueError("max_retries and retry_budget must not be negative")
        self._addresses = parse_addresses(address)
        self._credentials = Credentials(root_certificates, client_certificate)
        self._credentials.check(self._addresses)
        self._authorization: Metadata = ()
        if token is not None:
            self._authorization = (("authorization", f"Bearer {_check_token(token)}"),)
        self._default_deadline = Deadline(deadline).seconds
        self._retries = Retries(RetryPolicy(attempts=max_retries + 1, budget=retry_budget))
        self._options = options or EmbedOptions()
        # Fetched before the first request with several texts.
        self._known_limits: PartLimits | None = None
        self._open()

    def _open(self) -> None:
        """Prepares the connections."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self._addresses))})"

    def _deadline(self, deadline: float | None) -> Deadline:
        return Deadline(self._default_deadline if deadline is None else deadline)

    def _metadata(self, options: EmbedOptions | None = None) -> Metadata:
        return self._authorization + (options.metadata() if options else ())

    def _learn_limits(self, model: Model) -> PartLimits:
        self._known_limits = PartLimits.of(model)
        return self._known_limits

    def _rejected(self, error: InvalidRequestError, part: Part) -> InvalidRequestError:
        """The error of a whole request, one part of which was rejected."""
        # The limits may be out of date: a server can restart with different ones.
        self._known_limits = None
        return for_whole_request(error, part.first)

    def _empty_dimension(self, options: EmbedOptions) -> int:
        """The dimension of the embeddings of an empty request, as far as it is known without a call."""
        known = self._known_limits.dimension if self._known_limits else 0
        return options.dimensions or known


class StreamModel:
    """The model of a stream."""

    def __init__(self) -> None:
        self._first: str | None = None

    def check(self, results: Sequence[StreamItem]) -> None:
        """Raises MixedModelsError if another model has embedded earlier texts of the stream."""
        models = [result.model for _, result in results if isinstance(result, Embedding)]
        self._first = self._first or next(iter(models), None)
        if self._first is not None:
            _messages.check_models([self._first, *models])


def closed(call: str) -> EmbeddError:
    """The error of a call after its client was closed."""
    return EmbeddError("the client is closed", call=call)


def _check_token(token: str) -> str:
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        # Without the token itself, which is a secret.
        raise ValueError("the token must consist of visible ASCII characters, without spaces")
    return token
