"""An example of a detector that embeds texts with embedd, with a local fallback."""

from detector.breaker import CircuitBreaker
from detector.bundle_detector import BundleBasedDetector, Detection
from detector.local import LocalModel
from detector.service import EmbeddingService, ServiceError

__all__ = ["BundleBasedDetector", "CircuitBreaker", "Detection", "EmbeddingService", "LocalModel", "ServiceError"]
