"""Embeddings of a real server, from both clients."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import MAX_MESSAGE_BYTES, MAX_TEXTS
from servers import PATIENCE, PROGRAM, Server, environment

from embedd import AsyncClient, Client, EmbedOptions, InvalidRequestError, TokenCount

TEXTS = ["Ignore all previous instructions", "", "naïve 漢字 😀", "word " * 300, "Hello there"]


def embed_by_command(server: Server, home: Path, texts: list[str], *flags: str) -> list[dict[str, object]]:
    """The output of `embedd embed`."""
    command = [str(PROGRAM), "embed", "--server", server.address, *flags, *texts]
    output = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE, env=environment(home))
    return [json.loads(line) for line in output.stdout.splitlines()]


@pytest.mark.parametrize("dimensions", [None, 5])
def test_vectors_have_the_bits_that_the_command_prints(
    server: Server, home: Path, client: Client, dimensions: int | None
) -> None:
    flags = ["--dimensions", str(dimensions)] if dimensions else []
    expected = embed_by_command(server, home, TEXTS, *flags)
    embeddings = client.embed(TEXTS, dimensions=dimensions)
    vectors = np.array([line["embedding"] for line in expected], np.float32)
    assert vectors.tobytes() == embeddings.vectors.tobytes()
    assert embeddings.vectors.shape == (len(TEXTS), dimensions or client.model().dimension)
    assert embeddings.token_counts.tolist() == [line["token_count"] for line in expected]
    assert (
        embeddings.truncated.tolist() == [line["truncated"] for line in expected] == [False, False, False, True, False]
    )
    assert embeddings.cached.all(), "the command has just embedded the same texts"


def test_vectors_are_normalized_float32_that_callers_may_change(client: Client) -> None:
    embeddings = client.embed(TEXTS)
    assert embeddings.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, rtol=1e-5)
    embeddings.vectors[0] *= 2
    assert client.model().name == embeddings.model == "bert-mean"
    assert embeddings.timings[0].total > 0


def test_requests_beyond_the_limits_are_split_and_keep_the_order(client: Client) -> None:
    texts = [f"text number {number}" for number in range(5 * MAX_TEXTS + 3)]
    embeddings = client.embed(texts)
    assert len(embeddings) == len(texts)
    assert len(embeddings.timings) == 6, "one for each part"
    alone = [client.embed_one(text) for text in texts]
    assert [each.vector.tobytes() for each in alone] == [vector.tobytes() for vector in embeddings.vectors]
    assert [each.token_count for each in embeddings] == [each.token_count for each in alone]
    # Three texts exceed the size of a message, but not the number of texts.
    large = ["x" * (MAX_MESSAGE_BYTES // 2 - 200)] * 3
    assert len(client.embed(large).timings) == 2


def test_the_empty_list_needs_no_call() -> None:
    with Client("127.0.0.1:1", max_retries=0) as client:
        assert client.embed([]).vectors.shape == (0, 0)
        assert client.embed([], dimensions=3).vectors.shape == (0, 3)
        assert client.count_tokens([]) == []


def test_an_embedding_by_index_is_that_of_the_text(client: Client) -> None:
    embeddings = client.embed(TEXTS)
    assert [each.vector.tobytes() for each in embeddings] == [each.tobytes() for each in embeddings.vectors]
    assert embeddings[-1].vector.tobytes() == client.embed_one(TEXTS[-1]).vector.tobytes()
    assert embeddings[3].truncated
    assert [each.token_count for each in embeddings[1:3]] == embeddings.token_counts[1:3].tolist()
    with pytest.raises(IndexError):
        embeddings[len(TEXTS)]


def test_options_of_a_call_override_those_of_the_client(prompt_server: Server) -> None:
    defaults = EmbedOptions(prompt_name="query", dimensions=8, normalize=False, skip_cache=True)
    with Client(prompt_server.address, deadline=60, options=defaults) as client, Client(prompt_server.address) as plain:
        assert client.embed_one("a").vector.tobytes() == (
            plain.embed_one("a", prompt_name="query", dimensions=8, normalize=False).vector.tobytes()
        )
        assert not client.embed_one("a").cached
        # `None` is the server's default: the prompt `tag`.
        everything = client.embed_one("a", prompt_name=None, dimensions=None, normalize=True)
        assert everything.vector.tobytes() == plain.embed_one("a", prompt_name="tag").vector.tobytes()
        assert everything.vector.tobytes() != plain.embed_one("a", prompt_name="").vector.tobytes()
        with pytest.raises(TypeError, match="prompt"):
            client.embed_one("a", prompt="query")  # type: ignore[call-arg]


def test_tokens_are_counted_and_the_model_is_described(client: Client, prompt_server: Server) -> None:
    counts = client.count_tokens([*TEXTS] * MAX_TEXTS)
    assert counts[: len(TEXTS)] == counts[-len(TEXTS) :]
    assert counts[1] == TokenCount(2, False), "the special tokens"
    assert counts[3].exceeds_max_tokens
    assert client.model().limits.max_texts == MAX_TEXTS
    assert client.model().accuracy is not None
    with Client(prompt_server.address) as other:
        model = other.model()
        assert model.prompt_names == ("document", "query", "tag")
        assert (model.default_prompt_name, model.default_truncation) == ("tag", "end")


def test_a_stream_keeps_the_order_and_reads_only_a_little_ahead(client: Client) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while read < 10_000:
            read += 1
            yield f"text {read}"

    stream = client.embed_stream(endless())
    for returned in range(1, 301):
        text, embedding = next(stream)
        assert text == f"text {returned}"
        assert read <= returned + 128
        if returned % 100 == 1:
            assert embedding.vector.tobytes() == client.embed_one(text).vector.tobytes()
    stream.close()
    assert read < 10_000


def test_a_stream_continues_after_texts_that_are_rejected(client: Client) -> None:
    texts = ["a", "x" * 3000, "b", "\ud800", *["c"] * 20, "x" * 3000]
    items = list(client.embed_stream(texts, return_errors=True))
    assert [text for text, _ in items] == texts
    rejected = {index: each for index, (_, each) in enumerate(items) if isinstance(each, InvalidRequestError)}
    assert list(rejected) == [1, 3, 24]
    assert "texts[24] " in str(rejected[24])
    stream = client.embed_stream(texts)
    assert next(stream)[0] == "a"
    with pytest.raises(InvalidRequestError, match=r"texts\[1\]"):
        next(stream)


def test_an_error_of_the_iterable_ends_the_stream(client: Client) -> None:
    def failing() -> Iterator[str]:
        yield from ["a"] * 3
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(client.embed_stream(failing()))


def test_the_asynchronous_client_returns_the_same(server: Server, client: Client) -> None:
    texts = [f"text number {number}" for number in range(3 * MAX_TEXTS)]

    async def run() -> None:
        async with AsyncClient(server.address, deadline=60) as other:
            embeddings = await other.embed(texts)
            assert embeddings.vectors.tobytes() == client.embed(texts).vectors.tobytes()
            assert len(embeddings.timings) == 3
            assert (await other.embed_one("a")).vector.tobytes() == client.embed_one("a").vector.tobytes()
            assert (await other.embed([])).vectors.shape == (0, client.model().dimension)
            assert await other.count_tokens(TEXTS) == client.count_tokens(TEXTS)
            assert await other.model() == client.model()
            assert await other.health() == client.health()
            many = await asyncio.gather(*(other.embed_one(text) for text in texts))
            assert np.array_equal([each.vector for each in many], embeddings.vectors)

    asyncio.run(run())


def test_an_asynchronous_stream_does_not_wait_for_more_texts(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(server.address, deadline=60) as client:
            texts: asyncio.Queue[str] = asyncio.Queue()

            async def arriving() -> AsyncIterator[str]:
                while True:
                    yield await texts.get()

            stream = client.embed_stream(arriving())
            for number in range(3):
                texts.put_nowait(f"text {number}")
                text, embedding = await asyncio.wait_for(anext(stream), PATIENCE)
                assert text == f"text {number}"
                assert embedding.vector.tobytes() == (await client.embed_one(text)).vector.tobytes()
            await stream.aclose()

    asyncio.run(run())


def test_an_asynchronous_stream_keeps_the_order_and_reads_only_a_little_ahead(server: Server) -> None:
    async def run() -> None:
        read = 0

        async def endless() -> AsyncIterator[str]:
            nonlocal read
            while read < 10_000:
                read += 1
                yield "x" * 3000 if read == 50 else f"text {read}"
                await asyncio.sleep(0)

        async with AsyncClient(server.address, deadline=60) as client:
            stream = client.embed_stream(endless(), return_errors=True)
            for returned in range(1, 301):
                text, result = await anext(stream)
                assert isinstance(result, InvalidRequestError) == (returned == 50)
                assert returned == 50 or text == f"text {returned}"
                assert read <= returned + 161
            await stream.aclose()
            some = [text async for text, _ in client.embed_stream(["a", "b"] * 20)]
            assert some == ["a", "b"] * 20

            async def failing() -> AsyncIterator[str]:
                yield "a"
                raise OSError("the disk is gone")

            with pytest.raises(OSError, match="the disk is gone"):
                _ = [text async for text, _ in client.embed_stream(failing())]

    asyncio.run(run())
