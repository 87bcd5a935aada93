"""What callers get when calls fail."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MAX_TEXTS
from servers import Server

from embedd import (
    AsyncClient,
    AuthenticationError,
    Client,
    DeadlineExceededError,
    EmbeddError,
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
)

#: A text of 252 tokens.
LONG = "word " * 250


def test_invalid_requests_name_their_fields(client: Client) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.embed(["a", "b"], dimensions=100_000, prompt_name="missing")
    error = caught.value
    assert sorted(violation.field for violation in error.violations) == ["dimensions", "prompt_name"]
    assert (error.code, error.call, error.attempts) == ("INVALID_ARGUMENT", "Embed", 1)
    assert error.request_id
    assert error.request_id in str(error)
    assert error.server
    assert error.server in str(error)
    assert isinstance(error, ValueError)


def test_an_invalid_text_is_named_by_its_index_in_the_whole_request(server: Server, client: Client) -> None:
    texts = ["a"] * (3 * MAX_TEXTS)
    texts[2 * MAX_TEXTS + 1] = "x" * 3000
    with pytest.raises(InvalidRequestError) as caught:
        client.embed(texts)
    index = 2 * MAX_TEXTS + 1
    assert [(violation.text, violation.field) for violation in caught.value.violations] == [(index, f"texts[{index}]")]
    assert f"texts[{index}] " in str(caught.value)

    async def run() -> InvalidRequestError:
        async with AsyncClient(server.address, deadline=60) as other:
            with pytest.raises(InvalidRequestError) as caught:
                await other.embed(texts)
            return caught.value

    assert asyncio.run(run()).violations == caught.value.violations


def test_texts_that_are_no_text_are_rejected_before_the_call(client: Client) -> None:
    with pytest.raises(TypeError, match="embed_one"):
        client.embed("a text")
    with pytest.raises(TypeError, match="not a single string"):
        client.embed_stream("a text")
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string, not int"):
        client.embed(["a", 1])  # type: ignore[list-item]
    with pytest.raises(InvalidRequestError, match="lone surrogate at position 1") as caught:
        client.embed(["a", "b\ud800"])
    assert caught.value.violations[0].text == 1


def test_options_are_checked_before_the_call(client: Client) -> None:
    with pytest.raises(ValueError, match="truncation must be one of"):
        client.embed(["a"], truncation="middle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="priority must be one of"):
        client.embed(["a"], priority="high")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dimensions must be at least 1"):
        client.embed(["a"], dimensions=0)
    with pytest.raises(ValueError, match="seconds from now"):
        client.embed(["a"], deadline=-1)
    with pytest.raises(InvalidRequestError, match="maximum"):
        client.embed([LONG * 2], truncation="reject")


def test_the_deadline_covers_a_whole_call(server: Server) -> None:
    with (
        Client(server.address, deadline=1e-4) as client,
        pytest.raises(DeadlineExceededError, match="deadline of") as caught,
    ):
        client.embed([LONG] * (20 * MAX_TEXTS), skip_cache=True)
    assert isinstance(caught.value, TimeoutError)

    async def run() -> None:
        async with AsyncClient(server.address) as other:
            with pytest.raises(DeadlineExceededError):
                await other.embed([LONG] * (20 * MAX_TEXTS), skip_cache=True, deadline=1e-4)

    asyncio.run(run())


def test_the_deadline_covers_retries() -> None:
    # Nothing listens on port 1. Without a deadline, 100 retries would take more than two minutes.
    with Client("127.0.0.1:1", max_retries=100) as client:
        started = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            client.embed(["a"], deadline=1.0)
        assert time.monotonic() - started < 30, "not a performance requirement"
        assert caught.value.attempts > 2
        assert "no server can be reached" in str(caught.value)

    async def run() -> None:
        async with AsyncClient("127.0.0.1:1", deadline=0.5, max_retries=100) as other:
            with pytest.raises(UnavailableError):
                await other.embed(["a"])

    asyncio.run(run())


def test_calls_are_retried_while_the_server_restarts(home: Path) -> None:
    first = Server(home, "bert-mean")
    with Client(first.address, deadline=60, max_retries=30) as client:
        expected = client.embed(["a", "b"]).vectors
        first.kill()
        answers: list[bytes | EmbeddError] = []

        def call() -> None:
            try:
                answers.append(client.embed(["a", "b"]).vectors.tobytes())
            except EmbeddError as error:
                answers.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        with Server(home, "bert-mean", listen=first.address):
            for thread in threads:
                thread.join(60)
        assert answers == [expected.tobytes()] * 4


def test_asynchronous_calls_are_retried_while_the_server_restarts(home: Path) -> None:
    first = Server(home, "bert-mean")

    async def run() -> None:
        async with AsyncClient(first.address, deadline=60, max_retries=30) as client:
            expected = (await client.embed(["a", "b"])).vectors.tobytes()
            first.kill()
            calls = [asyncio.create_task(client.embed(["a", "b"])) for _ in range(4)]
            await asyncio.sleep(0.2)
            second = await asyncio.to_thread(Server, home, "bert-mean", listen=first.address)
            try:
                assert [each.vectors.tobytes() for each in await asyncio.gather(*calls)] == [expected] * 4
            finally:
                second.kill()

    asyncio.run(run())


def test_calls_in_flight_survive_the_loss_of_their_server(home: Path) -> None:
    servers = [Server(home, "bert-mean") for _ in range(2)]
    try:
        with Client([server.address for server in servers], deadline=60) as client:
            texts = (f"text {number} {LONG}" for number in range(600))
            stream = client.embed_stream(texts, skip_cache=True)
            received = [next(stream)[0] for _ in range(50)]
            servers[0].kill()
            received += [text for text, _ in stream]
            assert received == [f"text {number} {LONG}" for number in range(600)]
            assert [each.status for each in client.health()] == ["unknown", "serving"]
    finally:
        servers[1].kill()


def test_calls_are_spread_over_the_addresses_of_a_name(home: Path) -> None:
    with Server(home, "bert-mean") as server, Client(f"dns:///{server.address}", deadline=60) as client:
        assert len(client.embed(["a", "b"])) == 2
        assert [each.status for each in client.health()] == ["serving"]
        assert server.stop() < 20, "an open client does not delay the end of the server"


TOKENS = [f"token-{number}-of-the-tests-of-the-python-client" for number in range(4)]


@pytest.fixture(scope="module")
def metered_server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that accepts a text per second and token. A larger request is accepted, and delays those after it."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text("".join(f"{token} texts_per_second=1\n" for token in TOKENS))
    path.chmod(0o600)
    with Server(home, "bert-mean", "--token-file", str(path)) as server:
        yield server


def test_an_overloaded_server_says_when_to_retry(metered_server: Server) -> None:
    with Client(metered_server.address, deadline=60, token=TOKENS[0], max_retries=0) as client:
        client.embed(["a"] * 40)
        with pytest.raises(OverloadedError) as caught:
            client.embed(["a"])
    error = caught.value
    assert (error.code, error.attempts) == ("RESOURCE_EXHAUSTED", 1)
    assert error.retry_after is not None
    assert 10 < error.retry_after < 60, "40 seconds, less those that have passed, with jitter"
    assert "send fewer requests" in str(error)


def test_rejected_calls_are_retried_after_the_time_that_the_server_asks_for(metered_server: Server) -> None:
    with Client(metered_server.address, deadline=60, token=TOKENS[1]) as client:
        started = time.monotonic()
        client.embed(["a", "b"])
        assert len(client.embed(["a"])) == 1
        # The quota is negative for a second. Attempts without a wait would not last so long.
        assert time.monotonic() - started > 0.9

    async def run() -> None:
        async with AsyncClient(metered_server.address, deadline=60, token=TOKENS[1]) as client:
            started = time.monotonic()
            await client.embed(["a", "b"])
            assert len(await client.embed(["a"])) == 1
            assert time.monotonic() - started > 0.9

    asyncio.run(run())


def test_no_call_waits_beyond_its_deadline_or_the_budget(metered_server: Server) -> None:
    with Client(metered_server.address, token=TOKENS[2], retry_budget=0) as client:
        client.embed(["a"] * 50)
        with pytest.raises(OverloadedError) as caught:
            client.embed(["a"])
        assert caught.value.attempts == 1, "the budget is 0"
    with Client(metered_server.address, deadline=10, token=TOKENS[2]) as client:
        with pytest.raises(OverloadedError) as caught:
            client.embed(["a"])
        assert caught.value.attempts == 1, "the deadline is before the time to retry"
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 10
    with Client(metered_server.address, token=TOKENS[3]) as client:
        client.embed(["a"] * 200)
        with pytest.raises(OverloadedError) as caught:
            client.embed(["a"])
        assert caught.value.attempts == 1, "a wait of minutes is up to the caller"


def test_tokens_are_sent_and_missing_ones_are_reported(home: Path, tmp_path: Path) -> None:
    token = "token-of-the-tests-of-the-python-client"  # noqa: S105
    path = tmp_path / "tokens"
    path.write_text(token + "\n")
    path.chmod(0o600)
    with Server(home, "bert-mean", "--token-file", str(path)) as server:
        with Client(server.address, deadline=60, token=f" {token}\n") as client:
            assert len(client.embed(["a", "b"])) == 2
            assert token not in repr(client)
        for wrong in (None, "another-token-of-the-tests-0000000000"):
            with Client(server.address, deadline=60, token=wrong) as client:
                with pytest.raises(AuthenticationError, match="check the token") as caught:
                    client.embed(["a", "b"])
                assert (caught.value.code, caught.value.attempts) == ("UNAUTHENTICATED", 1)
                assert client.health()[0].status == "serving", "health needs no token"


def test_errors_survive_pickling(client: Client) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.embed(["a"], dimensions=100_000)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (type(copy), str(copy), copy.violations) == (InvalidRequestError, str(caught.value), caught.value.violations)
    late = DeadlineExceededError("no answer", call="Embed", attempts=2)
    assert str(pickle.loads(pickle.dumps(late))) == str(late) == "Embed: no answer (2 attempts)"  # noqa: S301


@pytest.mark.parametrize("token", ["", " ", "two words", "ö"])
def test_invalid_tokens_are_rejected_without_showing_them(token: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        Client("localhost:1", token=token)


def test_closing_a_client_ends_its_calls(server: Server) -> None:
    client = Client(server.address)
    stream = client.embed_stream(f"text {number} {LONG}" for number in range(1000))
    next(stream)
    client.close()
    with pytest.raises(EmbeddError):
        for _ in stream:
            pass
    for call in (client.model, lambda: client.embed(["a"]), lambda: client.embed(["a"] * (2 * MAX_TEXTS))):
        with pytest.raises(EmbeddError, match="the client is closed"):
            call()

    async def run() -> None:
        async with AsyncClient(server.address) as other:
            await other.embed(["a"])
        with pytest.raises(EmbeddError, match="the client is closed"):
            await other.embed(["a"])

    asyncio.run(run())


def test_a_canceled_task_cancels_its_call(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(server.address) as client:
            await client.model()
            call = asyncio.create_task(client.embed([f"{number} {LONG}" for number in range(500)], skip_cache=True))
            await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert len(asyncio.all_tasks()) == 1, "no task is left"
            assert len(await client.embed(["a"])) == 1

    asyncio.run(run())
