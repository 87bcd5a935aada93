"""Decides when a call is retried. Uses neither a clock nor sockets."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass

#: The amount that a successful call adds to the budget (gRPC proposal A6).
_BUDGET_PER_SUCCESS = 0.1
#: If a server asks for a longer wait, in seconds, the call fails, and it is up to the caller to retry.
_MAX_HINT = 60.0
#: The fraction by which waits vary, so that calls that failed together are not retried together.
_JITTER = 0.2


class Outcome(enum.Enum):
    """How an attempt failed."""

    #: For a reason that another attempt would not change.
    FINAL = enum.auto()
    #: The deadline passed.
    LATE = enum.auto()
    #: The call was not sent, and another server accepts calls.
    NOT_SENT = enum.auto()
    #: No server accepts connections.
    NO_SERVER = enum.auto()
    #: The connection broke. The server may have processed the call, or crashed because of it.
    BROKEN = enum.auto()
    #: The server replied UNAVAILABLE.
    UNAVAILABLE = enum.auto()
    #: The server is overloaded.
    BUSY = enum.auto()


@dataclass(frozen=True)
class Verdict:
    """The consequence of a failed attempt for its call."""

    outcome: Outcome
    #: The seconds after which the server asks to be called again, if it does.
    retry_after: float | None = None
    #: Whether the server forbids retries.
    never: bool = False
    #: Whether no other call has failed because of the same broken connection, as far as is known.
    first: bool = True


@dataclass
class Attempts:
    """The attempts of a call so far."""

    total: int = 0
    #: Those whose connection broke.
    broken: int = 0


@dataclass(frozen=True)
class RetryPolicy:
    """When calls are retried. Only unanswered calls are retried, and never past their deadline.

    * A call that was not sent, or that its server rejected with UNAVAILABLE, is sent to another server immediately, if
      one is healthy. Otherwise it waits.
    * A call whose connection broke may have crashed its server, and could crash the next one. It is retried only once,
      after a backoff.
    * The wait is the time that the server asks for (`grpc-retry-pushback-ms` or `RetryInfo`), or else the first
      backoff. It doubles with every attempt.
    * A server can forbid retries. RESOURCE_EXHAUSTED without a retry hint is not retried.
    """

    #: The maximum number of attempts; with 1, nothing is retried.
    attempts: int = 5
    #: The first wait in seconds, if the server does not specify one.
    first_backoff: float = 0.1
    #: The maximum wait in seconds, unless the server asks for a longer one.
    max_backoff: float = 2.0
    #: The retry budget, which keeps retries from making an overload worse. All calls of a client share it. Each
    #: rejected attempt and each broken connection takes one from it, and each successful call returns a tenth. While it
    #: is empty, such calls fail instead of waiting for a retry.
    budget: int = 50


class Retries:
    """The retry policy and budget of one client. Threads may share it."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._budget = float(policy.budget)
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Records a call that was answered."""
        with self._lock:
            self._budget = min(self._budget + _BUDGET_PER_SUCCESS, self._policy.budget)

    def next_wait(self, verdict: Verdict, attempts: Attempts, other_healthy: bool, random: float) -> float | None:
        """Returns the seconds before the next attempt, or `None` if there is none.

        `attempts` includes the one that ended with `verdict`. `random` is from 0 to 1.
        """
        outcome = verdict.outcome
        hinted = verdict.never or verdict.retry_after is not None
        rejected = outcome in (Outcome.BUSY, Outcome.UNAVAILABLE) and (hinted or not other_healthy)
        # Every such attempt counts, even if the call is not retried.
        counts = rejected or outcome is Outcome.BUSY or (outcome is Outcome.BROKEN and verdict.first)
        allowed = not counts or self._spend()
        if attempts.total >= self._policy.attempts or outcome in (Outcome.FINAL, Outcome.LATE) or verdict.never:
            return None
        if outcome is Outcome.NOT_SENT:
            return 0.0
        # The server that rejected the call is in backoff, which bounds how often this happens.
        if outcome is Outcome.UNAVAILABLE and not hinted and other_healthy:
            return 0.0
        if not allowed or (outcome is Outcome.BROKEN and attempts.broken > 1):
            return None
        if verdict.retry_after is not None:
            if verdict.retry_after > _MAX_HINT:
                return None
            # Never earlier than the server asks for, and longer each time, because other callers may keep taking the
            # free capacity first.
            wait = max(self._backoff(verdict.retry_after, attempts.total), verdict.retry_after)
            return wait * (1 + _JITTER * random)
        if outcome is Outcome.BUSY:
            return None
        return self._backoff(self._policy.first_backoff, attempts.total) * (1 - _JITTER + 2 * _JITTER * random)

    def _spend(self) -> bool:
        """Deducts an attempt from the budget. Returns whether the budget was sufficient."""
        with self._lock:
            self._budget -= 1
            sufficient = self._budget >= 0
            self._budget = max(self._budget, 0.0)
            return sufficient

    def _backoff(self, first: float, attempts: int) -> float:
        """Doubles the wait with each attempt, up to the maximum."""
        return min(first * 2.0 ** min(attempts - 1, 20), self._policy.max_backoff)
