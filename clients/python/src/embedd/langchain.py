"""Embeddings for LangChain.

Needs langchain-core: `pip install 'embedd[langchain]'`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from embedd._adapter import Backend, missing
from embedd._base import DEFAULT_ADDRESS, ClientSettings

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise missing(__name__, "langchain-core", "langchain") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["EmbeddEmbeddings"]


class EmbeddEmbeddings(Embeddings):
    """Embeds documents and queries with embedd.

    Documents get the model's prompt `document` (or `passage` or `corpus`), and queries its prompt `query`, if it has
    them.
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
        address, settings: those of embedd.Client.
        """
        self._backend = Backend(address, document_prompt, query_prompt, **settings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embeds documents, in order."""
        vectors: list[list[float]] = self._backend.embed(texts, "document").tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Embeds a query."""
        vector: list[float] = self._backend.embed([text], "query")[0].tolist()
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embeds documents, in order, without blocking the event loop."""
        vectors: list[list[float]] = (await self._backend.aembed(texts, "document")).tolist()
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        """Embeds a query without blocking the event loop."""
        vector: list[float] = (await self._backend.aembed([text], "query"))[0].tolist()
        return vector
