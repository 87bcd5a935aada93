"""What the client makes of replies, without a server."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from embedd import EmbeddError, Embedding, InvalidRequestError, MixedModelsError
from embedd._base import StreamModel
from embedd._messages import check_count, embeddings, health, single_embeddings
from embedd._proto import embedding_pb2 as messages


def reply(model: str, *values: float) -> messages.EmbedResponse:
    """A reply with vectors of two components."""
    packed = [np.array([value, -value], "<f4").tobytes() for value in values]
    return messages.EmbedResponse(model=model, embeddings=[messages.Embedding(packed=each) for each in packed])


def test_parts_become_one_array() -> None:
    found = embeddings([reply("a", 1, 2), reply("a", 3)], 2)
    assert found.vectors.tolist() == [[1, -1], [2, -2], [3, -3]]
    assert found[1:].vectors.tolist() == [[2, -2], [3, -3]]
    assert len(found.timings) == 2
    first, second = single_embeddings(reply("a", 1, 2))
    first.vector[0] = 5
    assert second.vector.tolist() == [2, -2]
    assert not np.shares_memory(first.vector, second.vector), "a vector does not keep the others in memory"


def test_vectors_of_different_models_are_never_mixed() -> None:
    with pytest.raises(MixedModelsError, match="some texts were embedded by a, others by b"):
        embeddings([reply("a", 1), reply("b", 2)], 2)
    model = StreamModel()
    model.check([("text", InvalidRequestError("is invalid", call="Embed"))])
    model.check([("text", single_embeddings(reply("a", 1))[0])])
    with pytest.raises(MixedModelsError, match="retry when all servers run the same model"):
        model.check([("text", single_embeddings(reply("b", 1))[0])])


def test_a_reply_must_match_its_request() -> None:
    check_count("Embed", 2, 2)
    with pytest.raises(EmbeddError, match="Embed: the server returned 1 results for 2 texts"):
        check_count("Embed", 1, 2)


def test_health_is_read_from_the_bytes_of_its_message() -> None:
    statuses = [health("a:1", encoded).status for encoded in (b"\x08\x01", b"\x08\x02", b"\x08\x03", b"")]
    assert statuses == ["serving", "not_serving", "not_serving", "not_serving"]
    with pytest.raises(DecodeError):
        health("a:1", b"<html>")


def test_results_can_be_shown() -> None:
    assert "vector=array" in repr(Embedding(np.zeros(2, np.float32), 1, False, False, "a"))
