"""The progress of one call: what each attempt needs, and what follows a failed one. Makes no calls itself."""

from __future__ import annotations

import math
import random
import time
from typing import Generic, TypeVar

import grpc

from embedd._failure import FailedCall, Failure
from embedd._retry import Attempts, Retries
from embedd._servers import Server, Servers
from embedd.errors import DeadlineExceededError, EmbeddError

_C = TypeVar("_C")
Metadata = tuple[tuple[str, str], ...]


class Deadline:
    """When a call must be answered, with all its attempts and parts."""

    def __init__(self, seconds: float | None) -> None:
        """`None` or infinity: no deadline. Raises ValueError if the time is negative."""
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"a deadline must be a number of seconds from now, not {seconds}")
        self.seconds = None if seconds == math.inf else seconds
        self._at = None if self.seconds is None else time.monotonic() + self.seconds

    def remaining(self) -> float | None:
        """The seconds that are left, at least 0; `None` without a deadline."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def allows(self, wait: float) -> bool:
        """Whether the deadline is later than this many seconds from now."""
        remaining = self.remaining()
        return remaining is None or wait < remaining


class CallState(Generic[_C]):
    """The progress of one call."""

    def __init__(self, call: str, servers: Servers[_C], retries: Retries, deadline: Deadline) -> None:
        self._call = call
        self._servers = servers
        self._retries = retries
        self._deadline = deadline
        self._attempts = Attempts()
        self._last: EmbeddError | None = None

    def begin(self) -> tuple[Server[_C], float | None]:
        """Returns the server for the next attempt, and the seconds that it has.

        Raises DeadlineExceededError if there are none.
        """
        remaining = self._deadline.remaining()
        if remaining == 0:
            raise self._late()
        self._attempts.total += 1
        return self._servers.pick(), remaining

    def succeeded(self, server: Server[_C]) -> None:
        """Records that the attempt was answered."""
        self._servers.answered(server)
        self._retries.succeeded()

    def failed(self, server: Server[_C], error: FailedCall) -> float:
        """Returns the seconds to wait before the next attempt.

        Raises the error for the caller if there is none.
        """
        failure = Failure.of(error)
        first = True
        if failure.code is grpc.StatusCode.UNAVAILABLE:
            first = self._servers.failed(server)
            self._attempts.broken += failure.broke
        elif failure.request_id is not None:
            self._servers.answered(server)
        other_healthy = self._servers.any_healthy()
        verdict = failure.verdict(other_healthy, first)
        if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and self._deadline.seconds is not None:
            raise self._late() from None
        problem = failure.error(self._call, server.name, self._attempts.total)
        # Jitter needs no cryptographic randomness.
        wait = self._retries.next_wait(verdict, self._attempts, other_healthy, random.random())  # noqa: S311
        if wait is None or not self._deadline.allows(wait):
            raise problem from None
        self._last = problem
        return wait

    def _late(self) -> DeadlineExceededError:
        before = f"; before that: {self._last.message}" if self._last else ""
        message = f"no answer within the deadline of {self._deadline.seconds:g} s{before}"
        return DeadlineExceededError(
            message,
            call=self._call,
            code="DEADLINE_EXCEEDED",
            server=self._last.server if self._last else None,
            attempts=self._attempts.total,
        )
