"""Embeds texts in this process, with the model packed by `embedd package`."""

import json
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers

from detector.vector import Vector


class LocalModel:
    """The unpacked tarball: `model_quantized.onnx`, `tokenizer.json`, `manifest.json`.

    Only the manifest is read before the first text is embedded.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        manifest = json.loads((folder / "manifest.json").read_text())
        self.name: str = manifest["name"]
        self._max_tokens: int = manifest["max_tokens"]
        self._lowercase: bool = manifest["lowercase"]
        self._lock = threading.Lock()
        self._loaded: tuple[onnxruntime.InferenceSession, tokenizers.Tokenizer] | None = None

    def embed(self, text: str) -> Vector:
        """Returns a vector of shape `[dimension]` and L2 norm 1."""
        session, tokenizer = self._load()
        encoding = tokenizer.encode(text.lower() if self._lowercase else text)
        inputs = {
            "input_ids": np.array([encoding.ids], np.int64),
            "attention_mask": np.array([encoding.attention_mask], np.int64),
        }
        (embeddings,) = session.run(["sentence_embedding"], inputs)
        vector: Vector = embeddings[0]
        return vector

    def _load(self) -> tuple[onnxruntime.InferenceSession, tokenizers.Tokenizer]:
        with self._lock:
            if self._loaded is None:
                file = str(self._folder / "model_quantized.onnx")
                session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
                tokenizer = tokenizers.Tokenizer.from_file(str(self._folder / "tokenizer.json"))
                # The file's padding and truncation are those used in training.
                tokenizer.no_padding()
                tokenizer.enable_truncation(max_length=self._max_tokens)
                self._loaded = session, tokenizer
            return self._loaded
