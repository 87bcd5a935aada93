"""An encoder for MTEB, the Massive Text Embedding Benchmark, version 2.

Needs mteb: `pip install 'embedd[mteb]'`. mteb itself is imported only for the description of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embedd._adapter import Backend, missing
from embedd._base import DEFAULT_ADDRESS, ClientSettings
from embedd.options import EmbedOptions, OptionChanges
from embedd.results import Vector

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["EmbeddEncoder"]


class EmbeddEncoder:
    """Encodes the texts of MTEB's tasks with embedd (mteb.EncoderProtocol).

    In tasks with queries and documents, documents get the model's prompt `document` (or `passage` or `corpus`), and
    queries its prompt `query`, if it has them. Other texts get the server's default prompt.
    """

    def __init__(
        self,
        address: str | Iterable[str] = DEFAULT_ADDRESS,
        *,
        document_prompt: str | None = None,
        query_prompt: str | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        """Does not connect: the first call does.

        document_prompt, query_prompt: names of prompts to use instead; `""`: no prompt.
        address, settings: those of embedd.Client. By default, requests have the priority `bulk`.
        """
        settings.setdefault("options", EmbedOptions(priority="bulk"))
        self._backend = Backend(address, document_prompt, query_prompt, **settings)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Vector:
        """Encodes batches of texts. Returns an array of shape [texts, dimension].

        inputs: batches with a list of texts in `text`; a torch DataLoader, in MTEB.
        prompt_type: `mteb.types.PromptType`, whose value is `query` or `document`.

        Raises EmbeddError, and TypeError for inputs without texts.
        """
        del task_metadata, hf_split, hf_subset, kwargs
        purpose = getattr(prompt_type, "value", prompt_type)
        options: OptionChanges = {}
        if purpose is not None:
            options = self._backend.options("query" if purpose == "query" else "document")
        vectors = [embedding.vector for _, embedding in self._backend.client.embed_stream(_texts(inputs), **options)]
        return np.stack(vectors) if vectors else np.empty((0, self._backend.model().dimension), np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Vector:
        """The cosines between all embeddings of the first and all of the second argument."""
        cosines: Vector = _normalized(embeddings1) @ _normalized(embeddings2).T
        return cosines

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Vector:
        """The cosines between the embeddings at the same positions of both arguments."""
        cosines: Vector = np.sum(_normalized(embeddings1) * _normalized(embeddings2), axis=1)
        return cosines

    @property
    def mteb_model_meta(self) -> Any:
        """The description of the model, for mteb's results."""
        try:
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        except ImportError as error:
            raise missing(__name__, "mteb", "mteb") from error
        model = self._backend.model()
        # MTEB wants an organization and a name.
        name = model.name if "/" in model.name else f"embedd/{model.name}"
        engine = {"engine": model.engine, "quantization": model.quantization}
        return ModelMeta.create_empty(
            overwrites={
                "name": name,
                "revision": model.revision,
                "max_tokens": model.max_tokens,
                "embed_dim": model.dimension,
                "similarity_fn_name": ScoringFunction.COSINE,
                "experiment_kwargs": engine,
            }
        )


def _texts(inputs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for batch in inputs:
        texts: Sequence[str] | None = batch.get("text")
        if texts is None:
            raise TypeError(
                f"embedd embeds texts, but the task has {', '.join(sorted(batch))}; choose tasks with texts"
            )
        yield from texts


def _normalized(embeddings: Any) -> Vector:
    """Rows of length 1, also of a single vector or a torch tensor."""
    rows = np.atleast_2d(np.asarray(embeddings, np.float32))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalized: Vector = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalized
