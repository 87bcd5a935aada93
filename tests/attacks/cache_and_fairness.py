"""K: the cache, the queue, and what callers can do to each other through them."""

import base64
import collections
import threading
import time

from attacks import messages
from attacks.connections import peers
from attacks.messages import framed
from attacks.server import HealthWatch
from attacks.suite import Skip, attack
from attacks.wire import Connection, call

TOKENS = ("a-token-of-one-tenant-0001", "a-token-of-another-tenant-0002")


def unique(prefix):
    return f"{prefix} {time.time_ns()}"


def long_texts(count):
    return [unique(f"{number} " + "word " * 40) for number in range(count)]


class Flood:
    """A caller that keeps large requests in flight until the end of the `with` block."""

    def __init__(self, server, *, connections=4, in_flight=8, texts=256, token=None, path=messages.EMBED, **headers):
        self.server = server
        self.in_flight = in_flight
        self.texts = texts
        self.token = token
        self.path = path
        self.headers = headers
        self.codes = collections.Counter()
        self._end = threading.Event()
        sources = peers(connections)
        self._threads = [threading.Thread(target=self._run, args=(source,), daemon=True) for source in sources]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        # Until the queue has something to share.
        time.sleep(2)
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, source):
        while not self._end.is_set():
            try:
                with Connection(self.server.grpc, source=source) as connection:
                    streams = []
                    while not self._end.is_set() and not connection.ended:
                        while len(streams) < self.in_flight:
                            texts = long_texts(self.texts)
                            streams.append(
                                connection.start(
                                    self.path, messages.embed(texts, skip_cache=1), token=self.token, **self.headers
                                )
                            )
                        connection.pump(0.05)
                        ended = [stream for stream in streams if connection.replies[stream].ended]
                        for stream in ended:
                            self.codes[connection.replies.pop(stream).code] += 1
                        streams = [stream for stream in streams if stream not in ended]
            except OSError:
                self.codes["connection ended"] += 1


def others(server, report, what, count=6, texts=1, token=None, **headers):
    """Single texts of another caller; none may be refused."""
    codes = collections.Counter()
    took = []
    with Connection(server.grpc) as connection:
        for number in range(count):
            started = time.monotonic()
            batch = [unique(f"{what} {number} {text}") for text in range(texts)]
            code = connection.call(messages.EMBED, messages.embed(batch), wait=20, token=token, **headers).code
            codes[code] += 1
            took.append(time.monotonic() - started)
            if code != "OK":
                break
    report.check(codes["OK"] == count, f"{what}: {dict(codes)}, slowest {max(took):.2f} s")
    return max(took)


@attack(
    "K01",
    "With a cache per token, a caller cannot tell what callers with another token have embedded.",
    own_server=True,
)
def cache_oracle(launcher, report):
    flags = launcher.optional("--cache-scope=caller")
    if not flags:
        report.note("this program has no --cache-scope")
    with launcher.start(flags=flags, tokens=TOKENS) as server:
        secret = unique("the password of the treasurer")
        cached = {}
        for token in (TOKENS[0], TOKENS[0], TOKENS[1]):
            reply = server.call(messages.EMBED, messages.embed([secret]), token=token)
            cached[token] = messages.embeddings(reply.messages[0])[0].cached
        report.check(cached[TOKENS[0]], "the same caller's second request is answered by the cache")
        report.check(not cached[TOKENS[1]], f"another caller's request: cached is {cached[TOKENS[1]]}")


@attack("K02", "A single text does not wait for the end of a large request that contains it.", fresh=True)
def text_of_a_large_request(server, report):
    shared = unique("the shared text")
    # Texts are scheduled by length, so a long one is the last of its request.
    shared += " word" * 60
    texts = long_texts(255) + [shared]
    with Connection(server.grpc) as large, Connection(server.grpc) as small:
        started = time.monotonic()
        first = large.start(messages.EMBED, messages.embed(texts))
        large.pump(0.2)
        reply = small.call(messages.EMBED, messages.embed([shared]), wait=60)
        single = time.monotonic() - started
        large.wait(first, 120)
        whole = time.monotonic() - started
    report.check(reply.code == "OK" and large.replies[first].code == "OK", f"{reply.code}, {large.replies[first].code}")
    report.check(single < whole / 2, f"the single text after {single:.2f} s, the large request after {whole:.2f} s")


@attack(
    "K03", "A text that hundreds of callers give up waiting for is never INTERNAL (a panic of the cache).", fresh=True
)
def abandoned_text(server, report):
    codes = collections.Counter()
    with Connection(server.grpc) as filler:
        for _ in range(8):
            filler.start(messages.EMBED, messages.embed(long_texts(250), skip_cache=1))
        hot = framed(messages.embed([unique("hot")]))
        connections = [Connection(server.grpc) for _ in range(8)]
        calls = []
        end = time.monotonic() + 4
        while time.monotonic() < end:
            connection = connections[len(calls) % 8]
            stream = connection.open(messages.EMBED, timeout="300m")
            connection.upload(stream, hot)
            calls.append((connection, stream))
            if len(calls) % 40 == 0:
                for each in connections:
                    each.pump(0.001)
        for connection, stream in calls:
            codes[connection.wait(stream, 3).code] += 1
        for connection in connections:
            connection.close()
    report.check(codes["INTERNAL"] == 0 and codes["UNKNOWN"] == 0, f"{len(calls)} calls: {dict(codes)}")
    report.check("panicked" not in server.log(), "no panic in the log")
    server.check_well(report)


@attack(
    "K04", "A flood of large requests on one connection, or on ten, leaves room for single texts of others.", fresh=True
)
def large_requests(server, report):
    for connections in (1, 10):
        with Flood(server, connections=connections, in_flight=20) as flood:
            others(server, report, f"beside {connections} connections")
            others(server, report, f"16 texts beside {connections} connections", count=2, texts=16)
        report.note(f"the flood: {dict(flood.codes)}")
    server.check_well(report)


@attack("K05", "A stream of large requests is answered without refusals, also of two streams at once.", fresh=True)
def stream_of_large_requests(server, report):
    with Connection(server.grpc) as connection:
        streams = [connection.open(messages.EMBED_STREAM) for _ in range(2)]
        short = [
            framed(messages.embed([f"{request} {text}" for text in range(256)], skip_cache=1)) for request in range(20)
        ]
        sent = 0
        for request in short:
            for stream in streams:
                sent += connection.upload(stream, request, end=request is short[-1], timeout=120)
        codes = collections.Counter()
        for stream in streams:
            reply = connection.wait(stream, 200)
            for message in reply.messages:
                error = messages.parse(message)[4]
                codes[f"error {messages.parse(error[0])[1]}" if error else "OK"] += 1
            codes[f"stream {reply.code}"] += 1
    report.check(codes["OK"] == 40 and codes["stream OK"] == 2, f"2 streams of 20 requests of 256 texts: {dict(codes)}")


@attack("K06", "A flood of new texts does not evict a text that is used all the time.", slow=True)
def cache_flood(server, report):
    hot = unique("hot")
    for _ in range(20):
        server.embed(hot)
    with Connection(server.grpc) as connection:
        for batch in range(100):
            connection.call(
                messages.EMBED,
                messages.embed([f"{batch} {number} {time.time_ns()}" for number in range(256)]),
                wait=120,
            )
            if batch % 5 == 0:
                server.embed(hot)
    embedding, code = server.embed(hot)
    report.check(
        embedding is not None and embedding.cached, f"the hot text: {code}, cached: {embedding and embedding.cached}"
    )


@attack("K07", "A text has the same bits whatever others send at the same time.")
def no_cross_talk(server, report):
    text = unique("the victim")
    alone = server.embed(text, skip_cache=1)[0].bits
    found = set()
    for _ in range(5):
        with Connection(server.grpc) as connection:
            besides = ["\ufdfa" * 500, "!" * 3000, "zx" * 1000, text]
            streams = [
                connection.start(
                    messages.EMBED, messages.embed([beside, text], skip_cache=1, encoding=messages.ENCODING_BYTES)
                )
                for beside in besides
            ]
            for stream in streams:
                reply = connection.wait(stream, 60)
                if reply.code == "OK":
                    found.add(messages.embeddings(reply.messages[0])[1].bits)
    report.check(found == {alone}, f"{len(found)} different embeddings")


@attack(
    "K08",
    "One token's flood of single texts or of large requests leaves another token's single texts served.",
    fresh=True,
    tokens=TOKENS,
)
def token_flood(server, report):
    for name, flood in {
        "single texts": Flood(server, connections=8, in_flight=60, texts=1, token=TOKENS[0]),
        "large requests": Flood(server, connections=8, in_flight=10, texts=256, token=TOKENS[0]),
        "streams": Flood(server, connections=8, in_flight=10, texts=256, token=TOKENS[0], path=messages.EMBED_STREAM),
    }.items():
        with flood:
            others(server, report, f"beside {name}", token=TOKENS[1])
        report.note(f"the flood: {dict(flood.codes)}")
    server.check_well(report)


@attack(
    "K09",
    "A flood of large requests does not hold up other callers' single texts for more than a few batches.",
    fresh=True,
)
def waiting_time(server, report):
    alone = others(server, report, "alone", count=3)
    with Flood(server, connections=4, in_flight=8):
        beside = others(server, report, "beside a flood")
    # A batch of 512 tokens takes about 130 ms here. First in, first out, it would be half a minute.
    report.check(beside < 5 + 10 * alone, f"slowest alone {alone:.2f} s, beside the flood {beside:.2f} s")


@attack(
    "K10",
    "A token's quota bounds its texts per second and its calls in flight; other tokens do not notice.",
    own_server=True,
)
def quotas(launcher, report):
    limited = f"{TOKENS[0]} texts_per_second=40 in_flight=4"
    if "texts_per_second" not in launcher.help:
        raise Skip("this program has no quotas")
    with launcher.start(tokens=[limited, TOKENS[1]]) as server:
        codes = collections.Counter()
        with Connection(server.grpc) as connection:
            started = time.monotonic()
            while time.monotonic() - started < 6:
                streams = [connection.start(messages.EMBED, messages.embed([unique(f"{n}")])) for n in range(20)]
                for stream in streams:
                    codes[connection.wait(stream, 20).code] += 1
            seconds = time.monotonic() - started
        # A burst of a second's worth, and what comes in the last moment.
        report.check(0 < codes["OK"] <= 40 * (seconds + 2), f"{dict(codes)} in {seconds:.1f} s at 40 texts per second")
        report.check(set(codes) == {"OK", "RESOURCE_EXHAUSTED"}, "the others are refused")
        others(server, report, "another token", token=TOKENS[1])


@attack("K11", "Hints when to retry differ between calls that are refused at the same time.", fresh=True)
def retry_hints(server, report):
    hints = set()
    refused = 0
    with Connection(server.grpc) as connection:
        streams = [
            connection.start(
                messages.EMBED,
                messages.embed([f"{request} " + "word " * 300], skip_cache=1),
            )
            for request in range(200)
        ]
        connection.pump(2)
        for stream in streams:
            reply = connection.replies[stream]
            if reply.code == "RESOURCE_EXHAUSTED":
                refused += 1
                hints.add(retry_delay(reply.details))
    report.check(refused >= 10, f"{refused} of {len(streams)} calls refused")
    report.check(None not in hints, "each refusal has a hint")
    report.check(len(hints) >= min(5, refused), f"{len(hints)} different hints in {refused} refusals")


def retry_delay(details):
    """The delay of the `google.rpc.RetryInfo` among the details of a status, in seconds."""
    status = messages.parse(base64.b64decode(details + "=" * (-len(details) % 4)))
    for detail in status[3]:
        fields = messages.parse(detail)
        if fields[1][0].endswith(b"google.rpc.RetryInfo"):
            duration = messages.parse(messages.parse(fields[2][0])[1][0])
            return sum(duration[1]) + sum(duration[2]) / 1e9
    return None


@attack(
    "K12",
    "With special tokens as plain text, `</s>` and `<mask>` in a text cannot hide what follows them.",
    own_server=True,
)
def special_tokens(launcher, report):
    flags = launcher.optional("--special-tokens=text")
    if not flags:
        report.note("this program has no --special-tokens")
    with launcher.start(flags=flags) as server:
        for token in ("<s>", "</s>", "<pad>", "<mask>", "[UNK]"):
            reply = server.call(messages.TOKENIZE, messages.tokenize(f"a {token} b", special_tokens=False))
            special = [
                messages.parse(each)[2][0] for each in messages.parse(reply.messages[0])[1] if messages.parse(each)[3]
            ]
            report.check(reply.code == "OK" and not special, f"{token}: special tokens in the middle: {special}")


@attack("K13", "A flood that never reads its refusals leaves others served.", fresh=True)
def unread_refusals(server, report):
    with HealthWatch(server) as health:
        connections = []
        for source in peers(6):
            connection = Connection(server.grpc, settings=[(4, 0)], source=source, timeout=2)
            connection.returns_window = False
            connections.append(connection)
            request = framed(messages.embed(long_texts(256), skip_cache=1))
            for _ in range(60):
                if not connection.upload(connection.open(messages.EMBED), request, timeout=1):
                    break
        others(server, report, "beside unread refusals")
        health.check(report)
    for connection in connections:
        connection.close()


@attack(
    "K14",
    "`priority: bulk` waits for interactive texts, and a caller cannot raise its share by asking for priority.",
    fresh=True,
)
def priorities(server, report):
    if "--default-priority" not in server.launcher.help and "priority" not in server.launcher.help:
        raise Skip("this program has no priorities")
    with Flood(server, connections=4, in_flight=8, extra=[("embedd-priority", "interactive")]) as flood:
        others(server, report, "beside a flood that claims to be interactive")
    report.note(f"the flood: {dict(flood.codes)}")
    with Flood(server, connections=4, in_flight=8, extra=[("embedd-priority", "bulk")]) as flood:
        others(server, report, "interactive beside bulk", extra=[("embedd-priority", "interactive")])
    report.note(f"the flood: {dict(flood.codes)}")


@attack("K15", "Calls without a token neither count against a tenant nor reach the queue.", tokens=TOKENS)
def unauthenticated_flood(server, report):
    message = messages.embed(long_texts(256), skip_cache=1)
    codes = collections.Counter()
    with Connection(server.grpc) as connection:
        streams = [connection.start(messages.EMBED, message, token="wrong") for _ in range(60)]
        for stream in streams:
            codes[connection.wait(stream, 10).code] += 1
    report.check(set(codes) == {"UNAUTHENTICATED"}, f"{dict(codes)}")
    report.check(server.metric("embedd_queue_texts") == 0, "nothing is queued")
    code = call(server.grpc, messages.EMBED, messages.embed(["a tenant"]), token=TOKENS[1]).code
    report.check(code == "OK", f"a tenant: {code}")
