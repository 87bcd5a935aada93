"""The detector."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np

from detector.breaker import CircuitBreaker
from detector.local import LocalModel
from detector.service import EmbeddingService, ServiceError
from detector.vector import Vector

Source = Literal["service", "local"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Detection:
    """The result for one text."""

    # Cosine to the nearest known injection.
    score: float
    nearest: str
    is_injection: bool
    embedding: Vector
    # Where the embedding was computed.
    source: Source


def known_injections() -> list[str]:
    """The known injections that come with this package."""
    return resources.files("detector").joinpath("known_injections.txt").read_text().splitlines()


class BundleBasedDetector:
    """Classifies a text as an injection if it is close to a known one.

    Embeddings come from the service, or from the packaged model if the service does not respond in time. Both use the
    same model, so their vectors are comparable.
    """

    def __init__(
        self,
        service: EmbeddingService,
        local: LocalModel,
        known: Sequence[str] | None = None,
        threshold: float = 0.5,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._service = service
        self._local = local
        self._breaker = breaker or CircuitBreaker()
        self._threshold = threshold
        self._known = list(known_injections() if known is None else known)
        self._bundle = np.stack([self._generate_embedding(text)[0] for text in self._known])

    def detect(self, text: str) -> Detection:
        embedding, source = self._generate_embedding(text)
        # All vectors have norm 1, so the product is the cosine.
        cosines = self._bundle @ embedding
        nearest = int(np.argmax(cosines))
        score = float(cosines[nearest])
        return Detection(score, self._known[nearest], score >= self._threshold, embedding, source)

    def _generate_embedding(self, text: str) -> tuple[Vector, Source]:
        embedding = self._ask_service(text)
        if embedding is not None:
            return embedding, "service"
        return self._local.embed(text), "local"

    def _ask_service(self, text: str) -> Vector | None:
        if not self._breaker.allows():
            return None
        try:
            embedding, model = self._service.embed(text)
        except ServiceError as error:
            # Texts are never logged.
            logger.warning("no embedding from the service: %s", error)
            if error.of_text:
                self._breaker.succeeded()
            else:
                self._breaker.failed()
            return None
        if model != self._local.name:
            logger.error("the service serves %s, but the packaged model is %s; not comparable", model, self._local.name)
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return embedding
