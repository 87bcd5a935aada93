"""What calls return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

Truncation = Literal["end", "start", "reject"]
Priority = Literal["interactive", "bulk"]
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Timings:
    """How many seconds each stage of a request took on the server. Cached vectors count toward `total` only."""

    #: Tokenizing the texts.
    tokenize: float
    #: Waiting for a free session: the maximum over all texts.
    queue: float
    #: Running the model: the sum over all batches of the request.
    infer: float
    #: From the decoded request to the complete response.
    total: float


@dataclass(frozen=True, eq=False)
class Embedding:
    """The embedding of one text."""

    #: float32, with the model's dimension or the requested one.
    vector: Vector
    #: Number of tokens that the model read, after truncation and including special tokens and the prompt.
    token_count: int
    #: Whether the text was truncated to that many tokens.
    truncated: bool
    #: Whether the vector came from the cache, or was computed for another request at the same time.
    cached: bool
    #: The model that computed the vector.
    model: str


@dataclass(frozen=True, eq=False)
class Embeddings(Sequence[Embedding]):
    """The embeddings of several texts, in the order of the texts."""

    #: float32, of shape [texts, dimension].
    vectors: Vector
    #: For each text, the number of tokens that the model read.
    token_counts: npt.NDArray[np.uint32]
    #: For each text, whether it was truncated.
    truncated: npt.NDArray[np.bool_]
    #: For each text, whether its vector came from the cache.
    cached: npt.NDArray[np.bool_]
    #: The model that computed the vectors; empty if there are no texts.
    model: str
    #: One for each request that the texts were split into.
    timings: tuple[Timings, ...]

    def __len__(self) -> int:
        return len(self.vectors)

    @overload
    def __getitem__(self, index: int) -> Embedding: ...

    @overload
    def __getitem__(self, index: slice) -> Embeddings: ...

    def __getitem__(self, index: int | slice) -> Embedding | Embeddings:
        if isinstance(index, slice):
            parts = (self.vectors[index], self.token_counts[index], self.truncated[index], self.cached[index])
            return Embeddings(*parts, self.model, self.timings)
        return Embedding(
            self.vectors[index],
            int(self.token_counts[index]),
            bool(self.truncated[index]),
            bool(self.cached[index]),
            self.model,
        )

    def __iter__(self) -> Iterator[Embedding]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class TokenCount:
    """The number of tokens of one text."""

    #: Tokens in the whole text, including special tokens, without truncation.
    token_count: int
    #: Whether `embed` would have to truncate the text, if no prompt precedes it.
    exceeds_max_tokens: bool


@dataclass(frozen=True)
class Accuracy:
    """Cosines between the model's embeddings and those of its reference set."""

    #: Number of texts in the reference set.
    texts: int
    min_cosine: float
    mean_cosine: float


@dataclass(frozen=True)
class Limits:
    """The server's limits for one request; 0 means no limit. The client splits requests that exceed them."""

    max_texts: int
    #: Bytes of one text, in UTF-8.
    max_text_bytes: int
    #: Bytes of one message sent to the server.
    max_message_bytes: int
    #: Concurrent calls on one connection. Further calls wait in the client.
    max_concurrent_streams: int
    #: Bytes of a call's metadata, as HTTP/2 counts them.
    max_header_bytes: int


@dataclass(frozen=True)
class Runtime:
    """The software and the sessions that run the model."""

    #: Version of embedd.
    version: str
    #: Version of the ONNX Runtime library.
    onnxruntime_version: str
    #: Number of sessions; each runs one batch at a time.
    sessions: int
    threads_per_session: int


@dataclass(frozen=True)
class Model:
    """The model that is served, and the limits of requests."""

    name: str
    #: sha256 of the source model's weights, in hexadecimal.
    revision: str
    #: Number of components of a vector.
    dimension: int
    #: Maximum number of tokens of a text that the model reads, including special tokens.
    max_tokens: int
    #: `fp32`, `fp16`, `portable` or `native`.
    engine: str
    #: The instruction set that the engine uses.
    instruction_set: str
    #: The recipe used to quantize the weights; `none` for fp32.
    quantization: str
    #: `None` if it was not measured.
    accuracy: Accuracy | None
    limits: Limits
    pooling: str
    #: What happens to texts that are too long, unless the request says otherwise.
    default_truncation: Truncation | None
    runtime: Runtime
    #: The names of the model's prompts.
    prompt_names: tuple[str, ...]
    #: The prompt of requests that do not name one; `None` if they get none.
    default_prompt_name: str | None
    #: Other names that requests may use in protocols that name the model.
    aliases: tuple[str, ...]
    #: The processor that runs the model: `cpu`, or a GPU such as `cuda:0 (NVIDIA L4)`.
    device: str


@dataclass(frozen=True)
class ServerHealth:
    """The health that a server reports."""

    #: The address, as the client was given it.
    server: str
    #: `serving`; `not_serving` while the server loads its model or shuts down; `unknown` if the check failed.
    status: Literal["serving", "not_serving", "unknown"]
    #: Why the check failed.
    reason: str | None = None
