"""An example of a detector that embeds texts with embedd, and by itself where that is away."""

from detector.breaker import CircuitBreaker
from detector.bundle_detector import BundleBasedDetector, Detection
from detector.local import LocalModel
from detector.service import EmbeddingService, ServiceError

__all__ = ["BundleBasedDetector", "CircuitBreaker", "Detection", "EmbeddingService", "LocalModel", "ServiceError"]
