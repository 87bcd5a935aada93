"""The client for blocking calls."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
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
from embedd._in_flight import InFlight
from embedd._parts import PartLimits, check_texts
from embedd._proto import embedding_pb2 as messages
from embedd._proto.embedding_pb2_grpc import EmbeddingServiceStub
from embedd._servers import Server, Servers, channel_options, target
from embedd.errors import EmbeddError, InvalidRequestError
from embedd.options import EmbedOptions, OptionChanges
from embedd.results import Embedding, Embeddings, Model, ServerHealth, TokenCount

if TYPE_CHECKING:
    from typing_extensions import Unpack

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Connection:
    channel: grpc.Channel
    service: EmbeddingServiceStub


class Client(BaseClient):
    """Calls the servers of one model. Threads may share a client."""

    def _open(self) -> None:
        self._servers = Servers([Server(str(address), self._connect(address)) for address in self._addresses])
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Calls in flight fail."""
        self._closed = True
        for server in self._servers:
            server.connection.channel.close()
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            # Threads that wait before a retry find out afterward.
            threads.shutdown(wait=False, cancel_futures=True)

    def embed(
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

        def embed_part(texts: list[str], in_flight: InFlight | None) -> messages.EmbedResponse:
            return self._embed_part(texts, chosen, limit, in_flight)

        replies = self._in_parts(check_texts("Embed", texts), limit, embed_part)
        return _messages.embeddings(replies, self._empty_dimension(chosen))

    def embed_one(
        self,
        text: str,
        *,
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> Embedding:
        """Embeds one text, with the options of `embed`.

        Raises EmbeddError.
        """
        return self.embed(
            [text],
            deadline=deadline,
            **options,
        )[0]

    @overload
    def embed_stream(
        self,
        texts: Iterable[str],
        *,
        return_errors: Literal[False] = False,
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> Generator[tuple[str, Embedding]]: ...

    @overload
    def embed_stream(
        self,
        texts: Iterable[str],
        *,
        return_errors: Literal[True],
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> Generator[StreamItem]: ...

    def embed_stream(
        self,
        texts: Iterable[str],
        *,
        return_errors: bool = False,
        deadline: float | None = None,
        **options: Unpack[OptionChanges],
    ) -> Generator[Any]:
        """Embeds any number of texts. Returns each text with its embedding, in order.

        Several requests are in flight at once. At most 128 texts are read ahead of the embeddings that are taken from
        the iterator. Each request is a call with its own deadline and retries.

        A text that the server rejects, for example because it is too long, raises InvalidRequestError. With
        `return_errors`, the error takes the place of the embedding and the stream continues.

        Raises EmbeddError, after the embeddings of the texts before.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError("texts must be an iterable of strings, not a single string")
        chosen = self._options.override(**options)
        return self._stream(iter(texts), chosen, deadline, return_errors)

    def count_tokens(self, texts: Iterable[str], *, deadline: float | None = None) -> list[TokenCount]:
        """Counts the tokens of texts, in order, without running the model.

        Raises EmbeddError.
        """
        limit = self._deadline(deadline)

        def count_part(texts: list[str], in_flight: InFlight | None) -> messages.CountTokensResponse:
            request = messages.CountTokensRequest(texts=texts)
            reply: messages.CountTokensResponse = self._call("CountTokens", request, limit, self._metadata(), in_flight)
            _messages.check_count("CountTokens", len(reply.counts), len(texts))
            return reply

        return _messages.token_counts(self._in_parts(check_texts("CountTokens", texts), limit, count_part))

    def model(self, *, deadline: float | None = None) -> Model:
        """Describes the model and the limits of requests, as reported by one of the servers.

        Raises EmbeddError.
        """
        return self._model(self._deadline(deadline))

    def health(self, *, deadline: float | None = None) -> list[ServerHealth]:
        """Returns the health of each server; of a name (`dns:///`), that of one of its servers. Does not retry."""
        remaining = self._deadline(deadline).remaining()
        timeout = HEALTH_TIMEOUT if remaining is None else min(remaining, HEALTH_TIMEOUT)
        checks = []
        for server in self._servers:
            check: Any = server.connection.channel.unary_unary(_messages.HEALTH_CHECK)
            checks.append((server.name, check.future(b"", timeout=timeout, metadata=self._metadata())))
        return [_health(name, check) for name, check in checks]

    def _connect(self, address: Address) -> _Connection:
        options = channel_options(address)
        if address.secure:
            credentials = self._credentials.channel_credentials()
            channel = grpc.secure_channel(target(address), credentials, options)
        else:
            channel = grpc.insecure_channel(target(address), options)
        return _Connection(channel, EmbeddingServiceStub(channel))

    def _call(
        self, call: str, request: Any, deadline: Deadline, metadata: Metadata, in_flight: InFlight | None = None
    ) -> Any:
        """Calls until there is an answer, the retry policy gives up, or the deadline passes."""
        state = CallState(call, self._servers, self._retries, deadline)
        pause = in_flight.wait if in_flight else threading.Event().wait
        while True:
            if self._closed:
                raise closed(call)
            server, timeout = state.begin()
            method = getattr(server.connection.service, call)
            try:
                if in_flight:
                    reply = in_flight.result(method.future(request, timeout=timeout, metadata=metadata))
                else:
                    reply = method(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                wait = state.failed(server, error)  # type: ignore[arg-type]
            except grpc.FutureCancelledError:
                raise EmbeddError("the call was canceled", call=call, code="CANCELLED") from None
            except ValueError:
                if not self._closed:
                    raise
                raise closed(call) from None
            else:
                state.succeeded(server)
                return reply
            pause(wait)

    def _model(self, deadline: Deadline) -> Model:
        return _messages.model(self._call("GetModel", messages.GetModelRequest(), deadline, self._metadata()))

    def _limits(self, deadline: Deadline) -> PartLimits:
        return self._known_limits or self._learn_limits(self._model(deadline))

    def _embed_part(
        self, texts: list[str], options: EmbedOptions, deadline: Deadline, in_flight: InFlight | None
    ) -> messages.EmbedResponse:
        metadata = self._metadata(options)
        reply: messages.EmbedResponse = self._call("Embed", options.request(texts), deadline, metadata, in_flight)
        _messages.check_count("Embed", len(reply.embeddings), len(texts))
        return reply

    def _in_parts(
        self, texts: list[str], deadline: Deadline, send: Callable[[list[str], InFlight | None], _T]
    ) -> list[_T]:
        """Sends texts in parts that a server accepts."""
        if len(texts) <= 1:
            return [send(texts, None)] if texts else []
        parts = self._limits(deadline).split(texts)
        replies: list[_T] = []
        try:
            if len(parts) == 1:
                return [send(texts, None)]
            in_flight = InFlight()
            jobs = (partial(send, part.texts, in_flight) for part in parts)
            with closing(self._in_order(jobs, PARTS_IN_FLIGHT, in_flight)) as ordered:
                for reply in ordered:
                    replies.append(reply)  # noqa: PERF402 - the number of replies is needed if one fails
        except InvalidRequestError as error:
            raise self._rejected(error, parts[len(replies)]) from None
        return replies

    def _in_order(self, jobs: Iterable[Callable[[], _T]], window: int, in_flight: InFlight) -> Generator[_T]:
        """Runs jobs concurrently, and returns their results in order. At most `window` run or wait to be taken."""
        pending: deque[Future[_T]] = deque()
        try:
            for job in jobs:
                pending.append(self._pool().submit(job))
                while pending and (len(pending) >= window or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except CancelledError:
            raise closed("Embed") from None
        finally:
            for future in pending:
                future.cancel()
            in_flight.cancel()

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise closed("Embed")
            if self._threads is None:
                self._threads = ThreadPoolExecutor(STREAM_REQUESTS, "embedd")
            return self._threads

    def _stream(
        self, texts: Iterator[str], options: EmbedOptions, deadline: float | None, return_errors: bool
    ) -> Generator[StreamItem]:
        in_flight = InFlight()
        model = StreamModel()

        def jobs() -> Iterator[Callable[[], list[StreamItem]]]:
            first = 0
            while chunk := list(itertools.islice(texts, STREAM_TEXTS)):
                yield partial(self._embed_each, chunk, first, options, deadline, in_flight)
                first += len(chunk)

        with closing(self._in_order(jobs(), STREAM_REQUESTS, in_flight)) as ordered:
            for results in ordered:
                model.check(results)
                for item in results:
                    if isinstance(item[1], InvalidRequestError) and not return_errors:
                        raise item[1]
                    yield item

    def _embed_each(
        self,
        texts: list[str],
        first: int,
        options: EmbedOptions,
        deadline: float | None,
        in_flight: InFlight,
    ) -> list[StreamItem]:
        """Embeds some texts of a stream, the first of which has the index `first`. Runs in a thread of the pool."""

        def embed(texts: list[str]) -> list[Embedding]:
            limit = self._deadline(deadline)
            checked = check_texts("Embed", texts)
            parts = self._limits(limit).split(checked)
            replies = [self._embed_part(part.texts, options, limit, in_flight) for part in parts]
            return [embedding for reply in replies for embedding in _messages.single_embeddings(reply)]

        try:
            return list(zip(texts, embed(texts), strict=True))
        except InvalidRequestError as error:
            if not error.concerns_texts_only:
                raise
        each: list[StreamItem] = []
        for index, text in enumerate(texts, first):
            try:
                each.append((text, embed([text])[0]))
            except InvalidRequestError as error:
                self._known_limits = None
                if not error.concerns_texts_only:
                    raise
                each.append((text, for_whole_request(error, index)))
        return each


def _health(server: str, check: Any) -> ServerHealth:
    try:
        return _messages.health(server, check.result())
    except (grpc.RpcError, grpc.FutureCancelledError, DecodeError) as error:
        return ServerHealth(server, "unknown", reason(error))
