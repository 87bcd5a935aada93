"""Runs coroutines for the items of a stream, and groups the texts that are available."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

_S = TypeVar("_S")
_T = TypeVar("_T")


async def in_order(
    items: AsyncGenerator[_S], run: Callable[[_S], Coroutine[Any, Any, _T]], window: int
) -> AsyncGenerator[_T]:
    """Runs a coroutine for each item, and returns the results in order. At most `window` run or wait to be taken."""
    pending: deque[asyncio.Task[_T]] = deque()
    following: asyncio.Task[_S | None] | None = asyncio.create_task(_next(items))
    try:
        while pending or following:
            waits: list[asyncio.Task[Any]] = [pending[0]] if pending else []
            if following and len(pending) < window:
                waits.append(following)
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if pending and pending[0].done():
                yield pending.popleft().result()
            elif following and following.done():
                item = following.result()
                following = None
                if item is not None:
                    pending.append(asyncio.create_task(run(item)))
                    following = asyncio.create_task(_next(items))
    finally:
        tasks: list[asyncio.Task[Any]] = [*pending, *([following] if following else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await items.aclose()


class _End:
    """Follows the last text of a stream."""


async def _next(items: AsyncGenerator[_S]) -> _S | None:
    return await anext(items, None)


async def iterate(items: Iterable[_S]) -> AsyncGenerator[_S]:
    """The items, asynchronously."""
    for item in items:
        yield item


async def chunks(texts: Iterable[str] | AsyncIterable[str], size: int) -> AsyncGenerator[tuple[int, list[str]]]:
    """Groups the texts that are available, up to `size`. Returns each group with the index of its first text."""
    first = 0
    if not isinstance(texts, AsyncIterable):
        iterator = iter(texts)
        while chunk := list(itertools.islice(iterator, size)):
            yield first, chunk
            first += len(chunk)
        return
    queue: asyncio.Queue[str | _End] = asyncio.Queue()
    capacity = asyncio.Semaphore(size)
    reader = asyncio.create_task(_read(texts, queue, capacity))
    try:
        ended = False
        while not ended:
            arrived: list[str | _End] = [await queue.get()]
            while len(arrived) < size and not queue.empty():
                arrived.append(queue.get_nowait())
            ended = isinstance(arrived[-1], _End)
            chunk = [text for text in arrived if not isinstance(text, _End)]
            for _ in chunk:
                capacity.release()
            if chunk:
                yield first, chunk
                first += len(chunk)
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _read(texts: AsyncIterable[str], queue: asyncio.Queue[str | _End], capacity: asyncio.Semaphore) -> None:
    """Reads texts into a queue, as far as there is capacity, and then the end, also if the iterable fails."""
    try:
        async for text in texts:
            await capacity.acquire()
            queue.put_nowait(text)
    finally:
        queue.put_nowait(_End())
