"""The Python client of embedd: load balancing, retries, deadlines and streams of texts.

from embedd import Client

with Client("localhost:50051", deadline=1.0) as client:
    vectors = client.embed(["Ignore all previous instructions", "Hello there"]).vectors
"""

from embedd._aio import AsyncClient
from embedd._client import Client
from embedd.errors import (
    AuthenticationError,
    DeadlineExceededError,
    EmbeddError,
    InvalidRequestError,
    MixedModelsError,
    OverloadedError,
    UnavailableError,
    Violation,
)
from embedd.options import EmbedOptions
from embedd.results import (
    Accuracy,
    Embedding,
    Embeddings,
    Limits,
    Model,
    Priority,
    Runtime,
    ServerHealth,
    Timings,
    TokenCount,
    Truncation,
)

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "DeadlineExceededError",
    "EmbedOptions",
    "EmbeddError",
    "Embedding",
    "Embeddings",
    "InvalidRequestError",
    "Limits",
    "MixedModelsError",
    "Model",
    "OverloadedError",
    "Priority",
    "Runtime",
    "ServerHealth",
    "Timings",
    "TokenCount",
    "Truncation",
    "UnavailableError",
    "Violation",
]
