"""Embeddings for LlamaIndex.

Needs llama-index-core: `pip install 'embedd[llama-index]'`.
"""

from __future__ import annotations

from typing import Any

from embedd._adapter import Backend, missing
from embedd._base import DEFAULT_ADDRESS, ClientSettings

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
except ImportError as error:
    raise missing(__name__, "llama-index-core", "llama-index") from error

__all__ = ["EmbeddEmbedding"]


class EmbeddEmbedding(BaseEmbedding):
    """Embeds texts and queries with embedd.

    Texts get the model's prompt `document` (or `passage` or `corpus`), and queries its prompt `query`, if it has them.
    """

    address: str = Field(default=DEFAULT_ADDRESS, description="The address of embedd, or several, with commas.")
    document_prompt: str | None = Field(default=None, description="The name of the prompt for texts; empty: none.")
    query_prompt: str | None = Field(default=None, description="The name of the prompt for queries; empty: none.")
    _backend: Backend = PrivateAttr()

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        document_prompt: str | None = None,
        query_prompt: str | None = None,
        settings: ClientSettings | None = None,
        **fields: Any,
    ) -> None:
        """Does not connect: the first call does.

        document_prompt, query_prompt: names of prompts to use instead; `""`: no prompt.
        address, settings: those of embedd.Client. They are not serialized, as they may contain secrets.
        fields: those of BaseEmbedding, such as `embed_batch_size`.
        """
        prompts = {"document_prompt": document_prompt, "query_prompt": query_prompt}
        super().__init__(**{"model_name": "embedd", "address": address, **prompts, **fields})
        self._backend = Backend(address, document_prompt, query_prompt, **(settings or {}))

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized components."""
        return "EmbeddEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._backend.embed([query], "query")[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = (await self._backend.aembed([query], "query"))[0].tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._backend.embed(texts, "document").tolist()
        return vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = (await self._backend.aembed(texts, "document")).tolist()
        return vectors
