"""Calls that are canceled together."""

from __future__ import annotations

import threading
from typing import Any


class InFlight:
    """The calls of one request or stream, which are canceled together. Its threads wait here between attempts."""

    def __init__(self) -> None:
        self._calls: set[Any] = set()
        self._lock = threading.Lock()
        self._canceled = threading.Event()

    def result(self, call: Any) -> Any:
        """Waits for a call. Raises grpc.RpcError or grpc.FutureCancelledError."""
        with self._lock:
            self._calls.add(call)
        if self._canceled.is_set():
            call.cancel()
        try:
            return call.result()
        finally:
            with self._lock:
                self._calls.discard(call)

    def wait(self, seconds: float) -> None:
        """Waits until the time has passed or the calls are canceled."""
        self._canceled.wait(seconds)

    def cancel(self) -> None:
        """Cancels the calls, and those to come."""
        self._canceled.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
