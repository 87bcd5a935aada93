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
    """What is found of a text."""

    # The cosine to the nearest of the known injections.
    score: float
    nearest: str
    is_injection: bool
    embedding: Vector
    # Who made the embedding.
    source: Source


def known_injections() -> list[str]:
    """The texts that come with this package."""
    return resources.files("detector").joinpath("known_injections.txt").read_text().splitlines()


class BundleBasedDetector:
    """Calls a text an injection that is near a known one.

    Embeddings come from the service, and from the packaged model where the service gives none in time. Both are of one
    model, so that it makes no difference to what is found.
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
        # All have norm 1: the product is the cosine.
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
            # The texts themselves are never logged.
            logger.warning("no embedding from the service: %s", error)
            if error.of_text:
                self._breaker.succeeded()
            else:
                self._breaker.failed()
            return None
        if model != self._local.name:
            logger.error("the service serves %s, and the packaged model is %s: not comparable", model, self._local.name)
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return embedding
