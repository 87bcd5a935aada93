"""An embedding function for Chroma. Importing this module registers it as `embedd`.

Needs chromadb: `pip install 'embedd[chroma]'`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from embedd._adapter import Backend, missing
from embedd._base import DEFAULT_ADDRESS, ClientSettings
from embedd.options import EmbedOptions

try:
    from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise missing(__name__, "chromadb", "chroma") from error

__all__ = ["EmbeddEmbeddingFunction"]

#: The names of the settings, in the configuration that Chroma stores with a collection.
_SETTINGS = (
    "address",
    "document_prompt",
    "query_prompt",
    "dimensions",
    "deadline",
    "token_env_var",
    "root_certificates_file",
)


@register_embedding_function
class EmbeddEmbeddingFunction(EmbeddingFunction[Documents]):
    """Embeds documents and queries with embedd.

    Documents get the model's prompt `document` (or `passage` or `corpus`), and queries its prompt `query`, if it has
    them. Chroma stores the settings with a collection, so the token is given by the name of a variable.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        document_prompt: str | None = None,
        query_prompt: str | None = None,
        dimensions: int | None = None,
        deadline: float | None = None,
        token_env_var: str | None = None,
        root_certificates_file: str | None = None,
    ) -> None:
        """Does not connect: the first call does.

        document_prompt, query_prompt: names of prompts to use instead; `""`: no prompt.
        dimensions: keep the first N components of each vector.
        token_env_var: the environment variable with the bearer token.
        root_certificates_file: PEM certificates of the authorities that sign the servers' certificates.
        address, deadline: those of embedd.Client.

        Raises ValueError if the environment variable is not set, and OSError if the file cannot be read.
        """
        self._config = {
            "address": address,
            "document_prompt": document_prompt,
            "query_prompt": query_prompt,
            "dimensions": dimensions,
            "deadline": deadline,
            "token_env_var": token_env_var,
            "root_certificates_file": root_certificates_file,
        }
        settings = ClientSettings(deadline=deadline, options=EmbedOptions(dimensions=dimensions))
        if token_env_var is not None:
            if token_env_var not in os.environ:
                raise ValueError(f"the environment variable {token_env_var} is not set; it must contain the token")
            settings["token"] = os.environ[token_env_var]
        if root_certificates_file is not None:
            settings["root_certificates"] = Path(root_certificates_file).read_bytes()
        self._backend = Backend(address, document_prompt, query_prompt, **settings)

    def __call__(self, input: Documents) -> Embeddings:  # noqa: A002 - Chroma's name
        """Embeds documents."""
        return list(self._backend.embed(input, "document"))

    def embed_query(self, input: Documents) -> Embeddings:  # noqa: A002 - Chroma's name
        """Embeds queries."""
        return list(self._backend.embed(input, "query"))

    @staticmethod
    def name() -> str:
        """The name in the configuration of collections."""
        return "embedd"

    def default_space(self) -> Space:
        """Vectors are normalized."""
        return "cosine"

    def supported_spaces(self) -> list[Space]:
        """All distances."""
        return ["cosine", "l2", "ip"]

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmbeddingFunction[Documents]:
        """Restores an embedding function from the configuration of a collection."""
        EmbeddEmbeddingFunction.validate_config(config)
        return EmbeddEmbeddingFunction(**config)

    def get_config(self) -> dict[str, Any]:
        """The settings, without secrets."""
        return dict(self._config)

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Rejects changes after which new vectors could not be compared with stored ones."""
        if old_config.get("dimensions") != new_config.get("dimensions"):
            raise ValueError("dimensions of an existing collection cannot be changed")

    @staticmethod
    def validate_config(config: dict[str, Any]) -> None:
        """Rejects unknown settings."""
        unknown = sorted(set(config).difference(_SETTINGS))
        if unknown:
            raise ValueError(f"unknown settings of the embedding function: {', '.join(unknown)}")
