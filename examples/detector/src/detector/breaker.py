"""A circuit breaker, which stops calls to a service that does not respond."""

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens for `seconds` after `failures` consecutive failures, then allows one call to try the service again."""

    def __init__(self, failures: int = 3, seconds: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Returns whether a call may be made. If so, the caller must report the result with `succeeded` or `failed`."""
        with self._lock:
            if self._failures < self._limit:
                return True
            now = self._clock()
            if now < self._open_until:
                return False
            self._open_until = now + self._seconds
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._open_until = self._clock() + self._seconds
