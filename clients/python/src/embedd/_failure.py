"""Reads failed attempts: what they mean for retries, and the errors that callers get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from embedd._retry import Outcome, Verdict
from embedd.errors import (
    AuthenticationError,
    DeadlineExceededError,
    EmbeddError,
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
    Violation,
)

#: The trailer that specifies when to retry (gRPC proposal A6).
_PUSHBACK = "grpc-retry-pushback-ms"
_DETAILS = "grpc-status-details-bin"
#: In every response of the server, so its absence means that the transport failed.
_REQUEST_ID = "x-request-id"
#: How gRPC's messages begin if the call was never sent.
_NOT_SENT = (
    "failed to connect to",
    "connections to all backends failing",
    "DNS resolution failed",
    "empty address list",
)

_M = TypeVar("_M", bound=Message)


class FailedCall(Protocol):
    """What the errors of gRPC's blocking and asynchronous calls have in common."""

    def code(self) -> Any: ...
    def details(self) -> str | None: ...
    def initial_metadata(self) -> Any: ...
    def trailing_metadata(self) -> Any: ...


@dataclass(frozen=True)
class Failure:
    """A failed attempt."""

    code: grpc.StatusCode
    message: str
    metadata: dict[str, str | bytes]

    @classmethod
    def of(cls, error: FailedCall) -> Failure:
        """Reads the error of a call."""
        pairs = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
        return cls(error.code(), error.details() or "", dict(pairs))

    @property
    def request_id(self) -> str | None:
        """The id of the call in the server's logs."""
        value = self.metadata.get(_REQUEST_ID)
        return value if isinstance(value, str) else None

    @property
    def not_sent(self) -> bool:
        """Whether no server has received the call."""
        # Newer versions of gRPC put the target in front of some messages.
        return self._by_transport and any(beginning in self.message for beginning in _NOT_SENT)

    @property
    def broke(self) -> bool:
        """Whether the connection broke after the call was sent."""
        return self._by_transport and not self.not_sent

    @property
    def _by_transport(self) -> bool:
        return self.code is grpc.StatusCode.UNAVAILABLE and self.request_id is None

    def verdict(self, other_healthy: bool, first: bool) -> Verdict:
        """The consequence for the call.

        `other_healthy`: whether another server accepts calls. `first`: whether no other call to this server has failed
        since it last answered.
        """
        if self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Verdict(Outcome.LATE)
        if self.not_sent:
            return Verdict(Outcome.NOT_SENT if other_healthy else Outcome.NO_SERVER)
        if self.broke:
            return Verdict(Outcome.BROKEN, first=first)
        outcomes = {grpc.StatusCode.UNAVAILABLE: Outcome.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED: Outcome.BUSY}
        outcome = outcomes.get(self.code, Outcome.FINAL)
        retry_after, never = self.hint() if outcome is not Outcome.FINAL else (None, False)
        return Verdict(outcome, retry_after, never)

    def hint(self) -> tuple[float | None, bool]:
        """The seconds after which the server asks to be called again, and whether it forbids retries."""
        pushback = self.metadata.get(_PUSHBACK)
        if pushback is not None:
            # A negative or malformed value means "do not retry" (A6).
            text = pushback if isinstance(pushback, str) else ""
            return (int(text) / 1000, False) if text.isascii() and text.isdigit() else (None, True)
        info = self._detail(error_details_pb2.RetryInfo)
        if info is None or not info.HasField("retry_delay"):
            return None, False
        return max(0.0, info.retry_delay.seconds + info.retry_delay.nanos / 1e9), False

    def violations(self) -> list[Violation]:
        """The invalid fields that the server names."""
        request = self._detail(error_details_pb2.BadRequest)
        fields = request.field_violations if request is not None else ()
        return [Violation(each.field, each.description, _text_index(each.field)) for each in fields]

    def _detail(self, kind: type[_M]) -> _M | None:
        encoded = self.metadata.get(_DETAILS)
        if not isinstance(encoded, bytes):
            return None
        message = kind()
        try:
            details = status_pb2.Status.FromString(encoded).details
            return message if any(each.Unpack(message) for each in details) else None
        except DecodeError:
            return None

    def error(self, call: str, server: str, attempts: int) -> EmbeddError:
        """The error for the caller."""
        name = self.code.name
        where: dict[str, Any] = {"call": call, "code": name, "server": server, "attempts": attempts}
        where["request_id"] = self.request_id
        message = f"{name}: {self.message}"
        if self.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
            return InvalidRequestError(message, violations=self.violations(), **where)
        if self.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return AuthenticationError(message, **where)
        if self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceededError(message, **where)
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError(message, retry_after=self.hint()[0], **where)
        if self.code is grpc.StatusCode.UNAVAILABLE:
            if self.not_sent:
                message = f"no server can be reached ({self.message})"
            elif self.broke:
                message = f"the connection broke ({self.message})"
            return UnavailableError(message, **where)
        return EmbeddError(message, **where)


def for_whole_request(error: InvalidRequestError, first: int) -> InvalidRequestError:
    """Converts the error of a part to that of the whole request, in which the part's texts start at index `first`."""
    if first == 0 or not error.violations:
        return error
    violations = [_moved(violation, first) for violation in error.violations]
    problems = "; ".join(f"{violation.field} {violation.description}" for violation in violations)
    details = {**error._details(), "violations": violations}
    return type(error)(f"{error.code}: {problems}", **details)


def _moved(violation: Violation, first: int) -> Violation:
    if violation.text is None:
        return violation
    index = violation.text + first
    return Violation(f"texts[{index}]", violation.description, index)


def _text_index(field: str) -> int | None:
    """The index in `texts[3]`."""
    digits = field.removeprefix("texts[").removesuffix("]")
    return int(digits) if field == f"texts[{digits}]" and digits.isascii() and digits.isdigit() else None


def reason(error: Exception) -> str:
    """Why a health check failed."""
    details = getattr(error, "details", None)
    return (details() if callable(details) else None) or str(error)
