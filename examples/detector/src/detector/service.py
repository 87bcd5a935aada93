"""Embeds texts with an embedd server."""

import grpc
import numpy as np

from detector.stubs.embedd.v1 import embedding_pb2 as messages
from detector.stubs.embedd.v1 import embedding_pb2_grpc as services
from detector.vector import Vector

# By default, grpcio waits up to two minutes before it reconnects, which is too long for a detector.
_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
# Codes caused by the text, not by the service.
_OF_TEXT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)


class ServiceError(Exception):
    """The service returned no embedding. `of_text` is true if the text is the cause, not the service."""

    def __init__(self, message: str, of_text: bool) -> None:
        super().__init__(message)
        self.of_text = of_text


class EmbeddingService:
    """Calls `Embed`, always with a deadline."""

    def __init__(self, address: str, deadline: float, token: str | None = None, roots: bytes | None = None) -> None:
        """`deadline` is in seconds. `roots`, CA certificates in PEM, enable TLS."""
        if roots is None:
            self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(roots)
            self._channel = grpc.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
        self._stub = services.EmbeddingServiceStub(self._channel)
        self._deadline = deadline
        self._metadata = [("authorization", f"Bearer {token}")] if token else None

    def embed(self, text: str) -> tuple[Vector, str]:
        """Returns a vector of shape `[dimension]` and L2 norm 1, and the name of the model that computed it.

        Raises ServiceError.
        """
        request = messages.EmbedRequest(texts=[text], encoding=messages.ENCODING_BYTES)
        try:
            response = self._stub.Embed(request, timeout=self._deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            code = error.code()
            raise ServiceError(f"{code.name}: {error.details()}", code in _OF_TEXT) from error
        return np.frombuffer(response.embeddings[0].packed, "<f4").astype(np.float32), response.model

    def close(self) -> None:
        self._channel.close()
