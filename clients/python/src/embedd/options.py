"""How texts are embedded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, get_args

from embedd._proto import embedding_pb2 as messages
from embedd.results import Priority, Truncation

if TYPE_CHECKING:
    from typing_extensions import Unpack


TRUNCATIONS: dict[Truncation, messages.Truncation.ValueType] = {
    "end": messages.TRUNCATION_END,
    "start": messages.TRUNCATION_START,
    "reject": messages.TRUNCATION_REJECT,
}


class OptionChanges(TypedDict, total=False):
    """The fields of EmbedOptions that a call sets."""

    normalize: bool
    dimensions: int | None
    prompt_name: str | None
    truncation: Truncation | None
    skip_cache: bool
    priority: Priority | None


@dataclass(frozen=True)
class EmbedOptions:
    """The options of an embedding call. A client has defaults, and each call can override them."""

    #: Scale each vector to L2 norm 1.
    normalize: bool = True
    #: Keep the first N components of each vector, before it is normalized. `None`: all of them.
    dimensions: int | None = None
    #: The name of the model's prompt to put in front of each text. `""`: no prompt. `None`: the server's default.
    prompt_name: str | None = None
    #: What to do with a text that has more tokens than the model accepts. `None`: the server's default.
    truncation: Truncation | None = None
    #: Compute vectors even if the server has them in its cache.
    skip_cache: bool = False
    #: `bulk` for work that can wait. `None`: the server's default, which is `interactive` unless configured.
    priority: Priority | None = None

    def __post_init__(self) -> None:
        if self.truncation is not None and self.truncation not in get_args(Truncation):
            raise ValueError(f"truncation must be one of {get_args(Truncation)} or None, not {self.truncation!r}")
        if self.priority is not None and self.priority not in get_args(Priority):
            raise ValueError(f"priority must be one of {get_args(Priority)} or None, not {self.priority!r}")
        if self.dimensions is not None and not 0 < self.dimensions < 1 << 32:
            raise ValueError(f"dimensions must be at least 1, not {self.dimensions}")

    def override(self, **changes: Unpack[OptionChanges]) -> EmbedOptions:
        """Returns these options with the given ones replaced. `None` is the server's default.

        Raises TypeError for an unknown option.
        """
        return dataclasses.replace(self, **changes) if changes else self

    def request(self, texts: list[str]) -> messages.EmbedRequest:
        """The message for these texts. Vectors are requested as bytes, which numpy reads without parsing numbers."""
        return messages.EmbedRequest(
            texts=texts,
            normalize=self.normalize,
            truncation=TRUNCATIONS[self.truncation] if self.truncation else messages.TRUNCATION_UNSPECIFIED,
            dimensions=self.dimensions,
            encoding=messages.ENCODING_BYTES,
            skip_cache=self.skip_cache,
            prompt_name=self.prompt_name,
        )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call with these options."""
        return (("embedd-priority", self.priority),) if self.priority else ()
