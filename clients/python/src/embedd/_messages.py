"""Converts messages to results, and results of parts to those of whole requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from embedd._proto import embedding_pb2 as messages
from embedd.errors import EmbeddError, MixedModelsError
from embedd.options import TRUNCATIONS
from embedd.results import (
    Accuracy,
    Embedding,
    Embeddings,
    Limits,
    Model,
    Runtime,
    ServerHealth,
    Timings,
    TokenCount,
    Vector,
)

#: The call of the standard health service. Its messages are so small that they need no generated code, which would
#: clash with that of grpcio-health-checking.
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


def embeddings(replies: Sequence[messages.EmbedResponse], dimension: int) -> Embeddings:
    """The embeddings of a request that was split into parts. `dimension` is that of an empty request.

    Raises MixedModelsError.
    """
    check_models([reply.model for reply in replies])
    each = [embedding for reply in replies for embedding in reply.embeddings]
    count = len(each)
    vectors = _vectors([embedding.packed for embedding in each])
    return Embeddings(
        vectors.reshape(count, -1) if count else np.empty((0, dimension), np.float32),
        np.fromiter((embedding.token_count for embedding in each), np.uint32, count),
        np.fromiter((embedding.truncated for embedding in each), np.bool_, count),
        np.fromiter((embedding.cached for embedding in each), np.bool_, count),
        replies[0].model if replies else "",
        tuple(_timings(reply.timings) for reply in replies),
    )


def single_embeddings(reply: messages.EmbedResponse) -> list[Embedding]:
    """The embeddings of a reply, with vectors that do not share memory."""
    return [
        Embedding(_vectors([each.packed]), each.token_count, each.truncated, each.cached, reply.model)
        for each in reply.embeddings
    ]


def check_models(models: Sequence[str]) -> None:
    """Raises MixedModelsError if the models are not all the same."""
    for model in models:
        if model != models[0]:
            message = f"some texts were embedded by {models[0]}, others by {model}"
            raise MixedModelsError(message, call="Embed")


def check_count(call: str, received: int, expected: int) -> None:
    """Raises EmbeddError if the number of results is not that of the texts."""
    if received != expected:
        raise EmbeddError(f"the server returned {received} results for {expected} texts", call=call)


def token_counts(replies: Sequence[messages.CountTokensResponse]) -> list[TokenCount]:
    """The token counts of a request that was split into parts."""
    return [TokenCount(each.token_count, each.exceeds_max_tokens) for reply in replies for each in reply.counts]


def model(reply: messages.GetModelResponse) -> Model:
    """The description of a model."""
    accuracy = reply.accuracy
    limits = reply.limits
    runtime = reply.runtime
    truncations = {value: name for name, value in TRUNCATIONS.items()}
    return Model(
        reply.name,
        reply.revision,
        reply.dimension,
        reply.max_tokens,
        reply.engine,
        reply.instruction_set,
        reply.quantization,
        Accuracy(accuracy.texts, accuracy.min_cosine, accuracy.mean_cosine) if reply.HasField("accuracy") else None,
        Limits(
            limits.max_texts,
            limits.max_text_bytes,
            limits.max_message_bytes,
            limits.max_concurrent_streams,
            limits.max_header_bytes,
        ),
        reply.pooling,
        truncations.get(reply.default_truncation),
        Runtime(runtime.version, runtime.onnxruntime_version, runtime.sessions, runtime.threads_per_session),
        tuple(reply.prompt_names),
        reply.default_prompt_name if reply.HasField("default_prompt_name") else None,
        tuple(reply.aliases),
        reply.device,
    )


def health(server: str, reply: bytes) -> ServerHealth:
    """The health in a reply to HEALTH_CHECK: an enum in field 1, in which 1 is SERVING."""
    if reply not in (b"", b"\x08\x00", b"\x08\x01", b"\x08\x02", b"\x08\x03"):
        raise DecodeError("not a HealthCheckResponse")
    return ServerHealth(server, "serving" if reply == b"\x08\x01" else "not_serving")


def _vectors(packed: Sequence[bytes]) -> Vector:
    """All components. Copies them once, to memory that the caller may write to."""
    # A big-endian machine needs another copy.
    return np.frombuffer(bytearray().join(packed), "<f4").astype(np.float32, copy=False)


def _timings(timings: messages.Timings) -> Timings:
    return Timings(*map(_seconds, (timings.tokenize, timings.queue, timings.infer, timings.total)))


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
