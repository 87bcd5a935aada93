"""The decisions about retries, without a server."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from embedd._failure import Failure, for_whole_request
from embedd._retry import Attempts, Outcome, Retries, RetryPolicy, Verdict
from embedd._servers import Server, Servers
from embedd.errors import EmbeddError, InvalidRequestError

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
REPLIED: dict[str, str | bytes] = {"x-request-id": "r-1"}
ONCE = Attempts(1)
FIELDS = ("texts[3]", "dimensions", "texts[x]")


def first_wait(verdict: Verdict, other_healthy: bool = False, random: float = 0.5) -> float | None:
    """The wait after a first attempt; without jitter, unless `random` is given."""
    return Retries(RetryPolicy()).next_wait(verdict, ONCE, other_healthy, random)


def with_details(*messages: Any) -> dict[str, str | bytes]:
    details = []
    for message in messages:
        detail = AnyMessage()
        detail.Pack(message)
        details.append(detail)
    return {**REPLIED, "grpc-status-details-bin": status_pb2.Status(details=details).SerializeToString()}


def test_answered_calls_are_not_retried_and_calls_that_were_not_sent_are() -> None:
    assert first_wait(Verdict(Outcome.FINAL), True) is None
    assert first_wait(Verdict(Outcome.LATE), True) is None
    assert first_wait(Verdict(Outcome.NOT_SENT), True) == 0
    assert first_wait(Verdict(Outcome.NO_SERVER)) == pytest.approx(0.1)
    assert first_wait(Verdict(Outcome.UNAVAILABLE), True) == 0
    assert first_wait(Verdict(Outcome.UNAVAILABLE)) == pytest.approx(0.1)


def test_the_server_decides_when_to_retry_and_whether_to() -> None:
    assert first_wait(Verdict(Outcome.BUSY, 0.05), random=0) == pytest.approx(0.05), "not earlier"
    assert first_wait(Verdict(Outcome.BUSY, 0.05), random=1) == pytest.approx(0.06)
    assert first_wait(Verdict(Outcome.UNAVAILABLE, 0.05), True, 0) == pytest.approx(0.05)
    assert first_wait(Verdict(Outcome.BUSY), True) is None
    assert first_wait(Verdict(Outcome.BUSY, never=True), True) is None
    assert first_wait(Verdict(Outcome.BUSY, 3600), True) is None
    retries = Retries(RetryPolicy())
    waits = [retries.next_wait(Verdict(Outcome.BUSY, 0.1), Attempts(total), False, 0) for total in (1, 2, 4)]
    assert waits == pytest.approx([0.1, 0.2, 0.8])
    assert retries.next_wait(Verdict(Outcome.BUSY, 10), Attempts(4), False, 0) == 10


def test_waits_double_up_to_the_maximum_and_have_jitter() -> None:
    retries = Retries(RetryPolicy(attempts=100))
    verdict = Verdict(Outcome.NO_SERVER)
    waits = [retries.next_wait(verdict, Attempts(total), False, 0.5) for total in (1, 2, 3, 5, 6, 50)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 1.6, 2, 2])
    assert [first_wait(verdict, random=random) for random in (0, 1)] == pytest.approx([0.08, 0.12])


def test_the_number_of_attempts_is_limited() -> None:
    retries = Retries(RetryPolicy(attempts=5))
    waits = [retries.next_wait(Verdict(Outcome.NOT_SENT), Attempts(total), True, 0) for total in (4, 5)]
    assert waits == [0, None]


def test_a_call_that_may_have_crashed_its_server_is_retried_once_and_within_the_budget() -> None:
    retries = Retries(RetryPolicy(budget=2))
    broken = Verdict(Outcome.BROKEN)
    assert retries.next_wait(broken, Attempts(1, 1), True, 0.5) == pytest.approx(0.1)
    assert retries.next_wait(broken, Attempts(2, 2), True, 0.5) is None
    assert retries.next_wait(broken, Attempts(1, 1), True, 0.5) is None, "the budget is used up"
    other = Verdict(Outcome.BROKEN, first=False)
    assert retries.next_wait(other, Attempts(1, 1), True, 0.5) == pytest.approx(0.1), "the connection has been counted"


def test_rejected_attempts_use_up_the_budget_and_successful_calls_fill_it() -> None:
    retries = Retries(RetryPolicy(budget=3))
    busy = Verdict(Outcome.BUSY, 0.0)
    assert [retries.next_wait(busy, ONCE, False, 0.5) for _ in range(5)] == [0, 0, 0, None, None]
    unavailable = Verdict(Outcome.UNAVAILABLE)
    assert retries.next_wait(unavailable, ONCE, True, 0.5) == 0, "another server may accept the call"
    assert retries.next_wait(unavailable, ONCE, False, 0.5) is None, "it would have to wait"
    for _ in range(11):
        retries.succeeded()
    assert [retries.next_wait(busy, ONCE, False, 0.5) for _ in range(2)] == [0, None]
    for _ in range(1000):
        retries.succeeded()
    assert [retries.next_wait(busy, ONCE, False, 0.5) for _ in range(4)] == [0, 0, 0, None], (
        "at most the initial budget"
    )


def test_the_trailer_takes_precedence_over_the_details() -> None:
    details = with_details(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)))
    assert Failure(EXHAUSTED, "busy", details).hint() == (2.5, False)
    assert Failure(EXHAUSTED, "busy", {**details, "grpc-retry-pushback-ms": "80"}).hint() == (0.08, False)
    for never in ("-1", "", "soon", "1.5", "²"):
        assert Failure(EXHAUSTED, "busy", {**details, "grpc-retry-pushback-ms": never}).hint() == (None, True)
    assert Failure(EXHAUSTED, "busy", {**REPLIED, "grpc-status-details-bin": b"\xff"}).hint() == (None, False)


def test_failures_of_the_transport_differ_from_those_of_servers() -> None:
    refused = Failure(UNAVAILABLE, "failed to connect to all addresses; last error: refused", {})
    assert refused.verdict(True, True).outcome is Outcome.NOT_SENT
    assert refused.verdict(False, True).outcome is Outcome.NO_SERVER
    broken = Failure(UNAVAILABLE, "Socket closed", {})
    assert broken.verdict(True, False) == Verdict(Outcome.BROKEN, first=False)
    assert Failure(UNAVAILABLE, "loading", REPLIED).verdict(True, True) == Verdict(Outcome.UNAVAILABLE)
    assert Failure(grpc.StatusCode.INTERNAL, "", REPLIED).verdict(True, True) == Verdict(Outcome.FINAL)
    assert "the connection broke (Socket closed)" in str(broken.error("Embed", "a:1", 1))


def test_errors_state_what_failed_and_where_and_what_to_do() -> None:
    unknown = Failure(grpc.StatusCode.UNIMPLEMENTED, "no such call", REPLIED).error("Embed", "a:1", 2)
    assert type(unknown) is EmbeddError
    assert str(unknown) == (
        "Embed at a:1: UNIMPLEMENTED: no such call; check that this is the right listener of the server (2 attempts) "
        "[request r-1]"
    )
    fields = [error_details_pb2.BadRequest.FieldViolation(field=name, description="is invalid") for name in FIELDS]
    details = with_details(error_details_pb2.BadRequest(field_violations=fields))
    error = Failure(grpc.StatusCode.INVALID_ARGUMENT, "texts[3] is invalid", details).error("Embed", "a:1", 1)
    assert isinstance(error, InvalidRequestError)
    assert not error.concerns_texts_only
    moved = for_whole_request(error, 256)
    assert [violation.field for violation in moved.violations] == ["texts[259]", "dimensions", "texts[x]"]
    assert "texts[259] is invalid" in str(moved)
    assert moved.request_id == "r-1"


def test_servers_take_turns_and_unavailable_ones_are_skipped() -> None:
    now = 0.0
    servers = Servers([Server(name, None) for name in "abc"], lambda: now)

    def picked(count: int) -> str:
        return "".join(servers.pick().name for _ in range(count))

    assert picked(6) == "abcabc"
    a = servers.pick()
    assert servers.failed(a)
    assert not servers.failed(a)
    assert set(picked(10)) == {"b", "c"}
    now = 1.5
    probes = picked(10)
    assert probes.count("a") == 1, "a single call tries whether it is healthy again"
    servers.answered(a)
    assert "a" in picked(3)
    for server in servers:
        servers.failed(server)
        now += 0.1
    assert not servers.any_healthy()
    assert picked(3) == "aaa", "the one that is skipped for the shortest time"
