"""The errors of calls. Each says what failed, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Violation:
    """One problem with a request."""

    #: The field as the API names it, such as `texts[3]` or `dimensions`.
    field: str
    #: What is wrong, and what is expected.
    description: str
    #: The index of the text, if the problem concerns one.
    text: int | None = None


class EmbeddError(Exception):
    """A call failed. Subclasses name the causes that programs handle; other causes have this class itself."""

    _advice = ""

    def __init__(
        self,
        message: str,
        *,
        call: str,
        code: str | None = None,
        server: str | None = None,
        request_id: str | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(message)
        #: What is wrong, without the place and the advice.
        self.message = message
        #: The call that failed, such as `Embed`.
        self.call = call
        #: The gRPC status code of the last attempt, such as `UNAVAILABLE`, if it had one.
        self.code = code
        #: The address that the last attempt was sent to, if any.
        self.server = server
        #: The id of the call in the server's logs, if the server returned one.
        self.request_id = request_id
        #: The number of attempts.
        self.attempts = attempts

    def _details(self) -> dict[str, Any]:
        names = ("call", "code", "server", "request_id", "attempts")
        return {name: getattr(self, name) for name in names}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self._details()))

    def __str__(self) -> str:
        place = f" at {self.server}" if self.server else ""
        advice = self._advice
        if self.code == "UNIMPLEMENTED":
            advice = "; check that this is the right listener of the server"
        attempts = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.call}{place}: {self.message}{advice}{attempts}{request}"


class InvalidRequestError(EmbeddError, ValueError):
    """The request is invalid. Retrying it is pointless."""

    def __init__(self, message: str, *, violations: Sequence[Violation] = (), **details: Any) -> None:
        super().__init__(message, **details)
        #: The invalid fields: the first ten, if the server found more. Empty if the server named none.
        self.violations = tuple(violations)

    def _details(self) -> dict[str, Any]:
        return {**super()._details(), "violations": self.violations}

    @property
    def concerns_texts_only(self) -> bool:
        """Whether the request would be valid without some of its texts."""
        return bool(self.violations) and all(violation.text is not None for violation in self.violations)


class OverloadedError(EmbeddError):
    """The servers are overloaded, and retries did not help."""

    _advice = "; send fewer requests at once"

    def __init__(self, message: str, *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        #: How many seconds to wait before the next attempt, if the server specified it.
        self.retry_after = retry_after

    def _details(self) -> dict[str, Any]:
        return {**super()._details(), "retry_after": self.retry_after}


class UnavailableError(EmbeddError):
    """No server could be reached, or none is ready."""

    _advice = "; check that the server is running and ready, and that it uses TLS if the address is https"


class DeadlineExceededError(EmbeddError, TimeoutError):
    """The deadline passed before an answer arrived."""


class AuthenticationError(EmbeddError):
    """The token or the client certificate is missing or was rejected."""

    _advice = "; check the token and the client certificate"


class MixedModelsError(EmbeddError):
    """Different models embedded the texts of one request or stream. Their vectors cannot be compared."""

    _advice = "; retry when all servers run the same model"


def _rebuild(kind: type[EmbeddError], message: str, details: dict[str, Any]) -> EmbeddError:
    """Unpickles an error, for example from another process."""
    return kind(message, **details)
