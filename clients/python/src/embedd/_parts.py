"""Checks the texts of a request, and splits large requests into parts that a server accepts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from embedd.errors import InvalidRequestError, Violation
from embedd.results import Model

#: An upper bound on the bytes of a request's other fields. Names of prompts have up to 128.
_OTHER_FIELDS = 256
#: The maximum bytes of a reply. Larger replies are rejected, and requests are split so that their replies are smaller.
MAX_REPLY_BYTES = 64 << 20
#: An upper bound on the bytes of a reply for each text, except its vector.
_REPLY_BYTES_PER_TEXT = 64


@dataclass(frozen=True)
class Part:
    """Consecutive texts of a request."""

    #: The index of the first text in the request.
    first: int
    texts: list[str]


@dataclass(frozen=True)
class PartLimits:
    """The limits of one part."""

    texts: int
    #: `None` means no limit.
    message_bytes: int | None
    dimension: int

    @classmethod
    def of(cls, model: Model) -> PartLimits:
        """The limits of a server with this model."""
        by_reply = max(1, MAX_REPLY_BYTES // (4 * model.dimension + _REPLY_BYTES_PER_TEXT))
        texts = min(model.limits.max_texts or by_reply, by_reply)
        message_bytes = model.limits.max_message_bytes
        return cls(texts, max(0, message_bytes - _OTHER_FIELDS) if message_bytes else None, model.dimension)

    def split(self, texts: list[str]) -> list[Part]:
        """Keeps the order. A text that is too large by itself becomes a part of its own, which the server rejects."""
        parts: list[Part] = []
        size = 0
        for index, text in enumerate(texts):
            length = len(text) if text.isascii() else len(text.encode())
            # A tag of one byte, the length, and the text.
            added = 1 + _varint_length(length) + length
            fits = self.message_bytes is None or size + added <= self.message_bytes
            if parts and len(parts[-1].texts) < self.texts and fits:
                size += added
                parts[-1].texts.append(text)
            else:
                size = added
                parts.append(Part(index, [text]))
        return parts


def check_texts(call: str, texts: Iterable[str]) -> list[str]:
    """Returns the texts as a list.

    Raises TypeError, or InvalidRequestError if a text cannot be encoded in UTF-8.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError("texts must be a list of strings, not a single one; for one text, use embed_one")
    checked = list(texts)
    for index, text in enumerate(checked):
        check_text(call, text, index)
    return checked


def check_text(call: str, text: str, index: int) -> None:
    """Raises like check_texts. `index` is that of the text in its request."""
    if not isinstance(text, str):
        raise TypeError(f"texts[{index}] must be a string, not {type(text).__name__}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        description = f"cannot be encoded in UTF-8: it has a lone surrogate at position {error.start}"
        violation = Violation(f"texts[{index}]", description, index)
        raise InvalidRequestError(f"texts[{index}] {description}", call=call, violations=[violation]) from None


def _varint_length(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)
