"""What the adapters for frameworks have in common: clients for both kinds of calls, and the prompts of the model."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from embedd._aio import AsyncClient
from embedd._base import DEFAULT_ADDRESS, ClientSettings
from embedd._client import Client
from embedd.errors import InvalidRequestError
from embedd.options import OptionChanges
from embedd.results import Model, Vector

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: The purpose of a text.
Purpose = Literal["document", "query"]
#: The names of prompts for each purpose, by precedence. They are those of the server's OpenAI API.
_PROMPTS: dict[Purpose, tuple[str, ...]] = {"document": ("document", "passage", "corpus"), "query": ("query",)}


class Backend:
    """Embeds documents and queries with the prompts of the model."""

    def __init__(
        self,
        address: str | Iterable[str] = DEFAULT_ADDRESS,
        document_prompt: str | None = None,
        query_prompt: str | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        """The prompts are names of the model's prompts; `""`: no prompt; `None`: chosen by the model."""
        address = address if isinstance(address, str) else list(address)
        self._address = address
        self._settings = settings
        self._given: dict[Purpose, str | None] = {"document": document_prompt, "query": query_prompt}
        self._model: Model | None = None
        self.client = Client(address, **settings)
        # A connection belongs to an event loop, and programs may use one after another.
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def model(self) -> Model:
        """The model, as it was when it was first needed."""
        if self._model is None:
            self._model = self.client.model()
        return self._model

    def options(self, purpose: Purpose) -> OptionChanges:
        """The prompt for texts of this purpose, if it is not that of other calls."""
        given = self._given[purpose]
        name = choose_prompt(self.model(), purpose) if given is None else given
        return {} if name is None else {"prompt_name": name}

    def embed(self, texts: list[str], purpose: Purpose) -> Vector:
        """Embeds texts. Returns the vectors in an array of shape [texts, dimension]."""
        if not texts:
            return self.client.embed(texts).vectors
        try:
            return self.client.embed(texts, **self.options(purpose)).vectors
        except InvalidRequestError:
            self._model = None  # The server may have another model by now, with other prompts.
            raise

    async def aembed(self, texts: list[str], purpose: Purpose) -> Vector:
        """Embeds texts without blocking the event loop. Returns the same as `embed`."""
        client = self.async_client()
        if not texts:
            return (await client.embed(texts)).vectors
        if self._model is None and self._given[purpose] is None:
            self._model = await client.model()
        try:
            return (await client.embed(texts, **self.options(purpose))).vectors
        except InvalidRequestError:
            self._model = None
            raise

    def async_client(self) -> AsyncClient:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._by_loop:
                self._by_loop[loop] = AsyncClient(self._address, **self._settings)
            return self._by_loop[loop]


def choose_prompt(model: Model, purpose: Purpose) -> str | None:
    """The name of the prompt for texts of this purpose.

    `""`, no prompt, if the model has one for the other purpose only; `None`, the server's default, if it has neither.
    """
    for name in _PROMPTS[purpose]:
        if name in model.prompt_names:
            return name
    known = {name for names in _PROMPTS.values() for name in names}
    return "" if known.intersection(model.prompt_names) else None


def missing(module: str, package: str, extra: str) -> ImportError:
    """The error of an adapter whose framework is not installed."""
    return ImportError(f"{module} needs {package}: pip install 'embedd[{extra}]'")
