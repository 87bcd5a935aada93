"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import grpc
from google.protobuf.message import DecodeError

from embedd import _messages
from embedd._addresses import Address
from embedd._base import (
    HEALTH_TIMEOUT,
    PARTS_IN_FLIGHT,
    STREAM_REQUESTS,
    STREAM_TEXTS,
    BaseClient,
    StreamItem,
    StreamModel,
    closed,
)
from embedd._call import CallState, Deadline, Metadata
from embedd._failure import for_whole_request, reason
from embedd._ordered import chunks, in_order, iterate
from embedd._parts import PartLimits, check_texts
from embedd._proto import embedding_pb2 as messages
from embedd._proto.embedding_pb2_grpc import EmbeddingServiceStub
from embedd._servers import Server, Servers, channel_options, target
from embedd.errors import InvalidRequestError
from embedd.options import EmbedOptions, OptionChanges
from embedd.results import Embedding, Embeddings, Model, ServerHealth, TokenCount

if TYPE_CHECKING:
    from typing_extensions import Unpack

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Connection:
    channel: grpc.aio.Channel
    service: Any


class AsyncClient(BaseClient):
    """Calls the servers of one model, with asyncio. A client belongs to the event loop of its first call."""

    def _open(self) -> None:
        # A channel needs a running event loop.
        self._connected: Servers[_Connection] | None = None
        self._closed = False

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Calls in flight fail."""
        self._closed = True
        if self._connected is not None:
            await asyncio.gather(*(server.connection.channel.close() for server in self._connected))

    async def embed(
        self,
        texts: Iterable[str],
        *,
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> Embeddings:
        """Embeds texts.

        deadline: the maximum seconds for the call, with all its retries and parts; by default that of the client.
            `math.inf`: no deadline.
        options: `normalize`, `dimensions`, `prompt_name`, `truncation`, `skip_cache` and `priority`, as described in
            EmbedOptions; by default those of the client.

        Requests that exceed the server's limits are split into parts, which are sent concurrently. An empty list needs
        no call.

        Raises EmbeddError if any text could not be embedded.
        """
        chosen = self._options.override(**options)
        limit = self._deadline(deadline)

        def embed_part(texts: list[str]) -> Coroutine[Any, Any, messages.EmbedResponse]:
            return self._embed_part(texts, chosen, limit)

        replies = await self._in_parts(check_texts("Embed", texts), limit, embed_part)
        return _messages.embeddings(replies, self._empty_dimension(chosen))

    async def embed_one(
        self,
        text: str,
        *,
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> Embedding:
        """Embeds one text, with the options of `embed`.

        Raises EmbeddError.
        """
        embeddings = await self.embed(
            [text],
            deadline=deadline,
            **options,
        )
        return embeddings[0]

    @overload
    def embed_stream(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        return_errors: Literal[False] = False,
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> AsyncGenerator[tuple[str, Embedding]]: ...

    @overload
    def embed_stream(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        return_errors: Literal[True],
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> AsyncGenerator[StreamItem]: ...

    def embed_stream(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        return_errors: bool = False,
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> AsyncGenerator[Any]:
        """Embeds any number of texts. Returns each text with its embedding, in order.

        Several requests are in flight at once. Texts of an asynchronous iterable that arrive meanwhile share the next
        request; a text that arrives alone is sent immediately. At most 161 texts are read ahead of the embeddings that
        are taken from the iterator. Each request is a call with its own deadline and retries.

        A text that the server rejects, for example because it is too long, raises InvalidRequestError. With
        `return_errors`, the error takes the place of the embedding and the stream continues.

        Raises EmbeddError, after the embeddings of the texts before.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError("texts must be an iterable of strings, not a single string")
        chosen = self._options.override(**options)
        return self._stream(texts, chosen, deadline, return_errors)

    async def count_tokens(self, texts: Iterable[str], *, deadline: float | None = None) -> list[TokenCount]:
        """Counts the tokens of texts, in order, without running the model.

        Raises EmbeddError.
        """
        limit = self._deadline(deadline)

        async def count_part(texts: list[str]) -> messages.CountTokensResponse:
            request = messages.CountTokensRequest(texts=texts)
            reply: messages.CountTokensResponse = await self._call("CountTokens", request, limit, self._metadata())
            _messages.check_count("CountTokens", len(reply.counts), len(texts))
            return reply

        return _messages.token_counts(await self._in_parts(check_texts("CountTokens", texts), limit, count_part))

    async def model(self, *, deadline: float | None = None) -> Model:
        """Describes the model and the limits of requests, as reported by one of the servers.

        Raises EmbeddError.
        """
        return await self._model(self._deadline(deadline))

    async def health(self, *, deadline: float | None = None) -> list[ServerHealth]:
        """Returns the health of each server; of a name (`dns:///`), that of one of its servers. Does not retry."""
        remaining = self._deadline(deadline).remaining()
        timeout = HEALTH_TIMEOUT if remaining is None else min(remaining, HEALTH_TIMEOUT)

        async def check(server: Server[_Connection]) -> ServerHealth:
            method: Any = server.connection.channel.unary_unary(_messages.HEALTH_CHECK)
            try:
                reply = await method(b"", timeout=timeout, metadata=self._metadata())
                return _messages.health(server.name, reply)
            except (grpc.RpcError, DecodeError) as error:
                return ServerHealth(server.name, "unknown", reason(error))

        return list(await asyncio.gather(*map(check, self._servers())))

    def _servers(self) -> Servers[_Connection]:
        if self._connected is None:
            self._connected = Servers([Server(str(address), self._connect(address)) for address in self._addresses])
        return self._connected

    def _connect(self, address: Address) -> _Connection:
        options = channel_options(address)
        if address.secure:
            credentials = self._credentials.channel_credentials()
            channel = grpc.aio.secure_channel(target(address), credentials, options)
        else:
            channel = grpc.aio.insecure_channel(target(address), options)
        return _Connection(channel, EmbeddingServiceStub(channel))

    async def _call(self, call: str, request: Any, deadline: Deadline, metadata: Metadata) -> Any:
        """Calls until there is an answer, the retry policy gives up, or the deadline passes."""
        state = CallState(call, self._servers(), self._retries, deadline)
        while True:
            if self._closed:
                raise closed(call)
            server, timeout = state.begin()
            try:
                reply = await getattr(server.connection.service, call)(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                wait = state.failed(server, error)  # type: ignore[arg-type]
            else:
                state.succeeded(server)
                return reply
            await asyncio.sleep(wait)

    async def _model(self, deadline: Deadline) -> Model:
        return _messages.model(await self._call("GetModel", messages.GetModelRequest(), deadline, self._metadata()))

    async def _limits(self, deadline: Deadline) -> PartLimits:
        return self._known_limits or self._learn_limits(await self._model(deadline))

    async def _embed_part(self, texts: list[str], options: EmbedOptions, deadline: Deadline) -> messages.EmbedResponse:
        metadata = self._metadata(options)
        reply: messages.EmbedResponse = await self._call("Embed", options.request(texts), deadline, metadata)
        _messages.check_count("Embed", len(reply.embeddings), len(texts))
        return reply

    async def _in_parts(
        self, texts: list[str], deadline: Deadline, send: Callable[[list[str]], Coroutine[Any, Any, _T]]
    ) -> list[_T]:
        """Sends texts in parts that a server accepts."""
        if len(texts) <= 1:
            return [await send(texts)] if texts else []
        parts = (await self._limits(deadline)).split(texts)
        replies: list[_T] = []
        try:
            if len(parts) == 1:
                return [await send(texts)]
            async with aclosing(in_order(iterate(parts), lambda part: send(part.texts), PARTS_IN_FLIGHT)) as ordered:
                async for reply in ordered:
                    replies.append(reply)  # noqa: PERF401 - the number of replies is needed if one fails
        except InvalidRequestError as error:
            raise self._rejected(error, parts[len(replies)]) from None
        return replies

    async def _stream(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        options: EmbedOptions,
        deadline: float | None,
        return_errors: bool,
    ) -> AsyncGenerator[StreamItem]:
        model = StreamModel()

        def embed(chunk: tuple[int, list[str]]) -> Coroutine[Any, Any, list[StreamItem]]:
            return self._embed_each(chunk[1], chunk[0], options, deadline)

        async with aclosing(in_order(chunks(texts, STREAM_TEXTS), embed, STREAM_REQUESTS)) as ordered:
            async for results in ordered:
                model.check(results)
                for item in results:
                    if isinstance(item[1], InvalidRequestError) and not return_errors:
                        raise item[1]
                    yield item

    async def _embed_each(
        self, texts: list[str], first: int, options: EmbedOptions, deadline: float | None
    ) -> list[StreamItem]:
        """Embeds some texts of a stream, the first of which has the index `first`."""

        async def embed(texts: list[str]) -> list[Embedding]:
            limit = self._deadline(deadline)
            checked = check_texts("Embed", texts)
            parts = (await self._limits(limit)).split(checked)
            replies = [await self._embed_part(part.texts, options, limit) for part in parts]
            return [embedding for reply in replies for embedding in _messages.single_embeddings(reply)]

        try:
            return list(zip(texts, await embed(texts), strict=True))
        except InvalidRequestError as error:
            if not error.concerns_texts_only:
                raise
        each: list[StreamItem] = []
        for index, text in enumerate(texts, first):
            try:
                each.append((text, (await embed([text]))[0]))
            except InvalidRequestError as error:
                self._known_limits = None
                if not error.concerns_texts_only:
                    raise
                each.append((text, for_whole_request(error, index)))
        return each
