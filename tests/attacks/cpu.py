"""P: CPU time that callers make the server spend."""

import collections
import threading
import time

from attacks import messages
from attacks.connections import peers
from attacks.messages import HARD_TEXT, MAX_TEXT_BYTES, framed
from attacks.server import HealthWatch, together
from attacks.suite import attack
from attacks.wire import Connection

PROSE = ("the quick brown fox jumps over the lazy dog " * 2000)[: MAX_TEXT_BYTES - 16]


def hard_texts(count):
    return [f"{number} {HARD_TEXT}"[:MAX_TEXT_BYTES] for number in range(count)]


def cpu_of(server, work):
    before = server.cpu_seconds()
    work()
    return server.cpu_seconds() - before


@attack("P01", "Words that are hard to tokenize take at most 4 times as much CPU as prose.")
def hard_words(server, report):
    spent = {}
    for name, text in [("prose", PROSE), ("hard words", HARD_TEXT)]:
        message = messages.count_tokens([text] * 8)
        server.call(messages.COUNT_TOKENS, message)
        spent[name] = cpu_of(server, lambda: [server.call(messages.COUNT_TOKENS, message) for _ in range(3)]) / 24
    report.check(
        spent["hard words"] < 4 * spent["prose"] + 0.01,
        ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in spent.items()) + " of CPU for 64 KiB",
    )


@attack(
    "P02",
    "Four calls of 8 MiB of hard words take less than 40 s of CPU, and health and other callers are served meanwhile.",
    fresh=True,
)
def hard_messages(server, report):
    message = messages.count_tokens(hard_texts(120))
    others = []
    end = threading.Event()

    def other():
        while not end.is_set():
            others.append(server.embed(f"another caller, {time.time_ns()}")[1])

    thread = threading.Thread(target=other, daemon=True)
    with HealthWatch(server) as health:
        thread.start()
        spent = cpu_of(
            server, lambda: together([lambda: server.call(messages.COUNT_TOKENS, message, wait=200)] * 4, 240)
        )
        health.check(report)
    end.set()
    thread.join()
    report.check(spent < 40, f"{spent:.0f} s of CPU")
    report.check(
        collections.Counter(others)["OK"] > 0 and set(others) == {"OK"},
        f"the other caller: {collections.Counter(others)}",
    )


@attack(
    "P03", "A deadline of 100 ms ends the tokenization of 8 MiB: the server spends less than 5 s of CPU.", fresh=True
)
def deadline_in_tokenization(server, report):
    with Connection(server.grpc, timeout=60) as connection:
        stream = connection.open(messages.COUNT_TOKENS, timeout="2S")
        code = []

        def attempt():
            connection.upload(stream, framed(messages.count_tokens(hard_texts(120))))
            code.append(connection.wait(stream, 60).code)

        spent = cpu_of(server, attempt)
        report.check(code == ["DEADLINE_EXCEEDED"] or code == ["OK"], f"{code[0]}")
        # Two seconds on each of two CPUs, and what it takes to receive the message.
        report.check(spent < 5, f"{spent:.1f} s of CPU")


@attack("P04", "A caller that disconnects stops the tokenization of its texts within a second of CPU.", fresh=True)
def cancelled_tokenization(server, report):
    for path, message in [
        (messages.COUNT_TOKENS, messages.count_tokens(hard_texts(120))),
        (messages.EMBED, messages.embed(hard_texts(120), skip_cache=1)),
    ]:
        connections = [Connection(server.grpc, timeout=60) for _ in range(2)]
        for connection in connections:
            connection.start(path, message)
        time.sleep(0.3)
        for connection in connections:
            connection.close()
        time.sleep(1)
        spent = cpu_of(server, lambda: time.sleep(4))
        report.check(spent < 1, f"{path}: {spent:.2f} s of CPU in the 4 s that begin 1 s after the callers left")
    server.check_well(report)


@attack("P05", "A caller who fills its share of the queue is refused before its texts are tokenized.", fresh=True)
def refused_before_tokenization(server, report):
    with filled_queue(server) as connection:
        started = server.cpu_seconds()
        stream = connection.start(messages.EMBED, messages.embed(hard_texts(100), skip_cache=1, dimensions=8))
        reply = connection.wait(stream, 30)
        spent = server.cpu_seconds() - started
        # The sessions go on working: two threads of inference for as long as the call takes.
        report.check(reply.code == "RESOURCE_EXHAUSTED", f"{reply.code} after {spent:.1f} s of CPU of the whole server")
        report.check(spent < 5, f"{spent:.1f} s of CPU of the whole server")


class filled_queue:
    """A caller whose requests fill its share of the queue, for more than a minute on any machine."""

    def __init__(self, server, source=None):
        self.server = server
        self.connection = Connection(server.grpc, source=source, timeout=120)

    def __enter__(self):
        # The small ones fill what the large ones leave. Long texts, so that few of them are done before the attack begins.
        for request, size in enumerate([250] * 24 + [10] * 30):
            texts = [f"{request} {text} {time.time_ns()} " + "word " * 250 for text in range(size)]
            # Short replies, because requests wait while there is no memory for theirs.
            self.connection.start(messages.EMBED, messages.embed(texts, skip_cache=1, dimensions=8))
        self.connection.pump(0.5)
        return self.connection

    def __exit__(self, *_):
        self.connection.close()


@attack("P06", "Refusing thousands of requests takes less than 1 ms of CPU each.", fresh=True)
def refusals(server, report):
    codes = collections.Counter()
    with filled_queue(server) as connection:
        working = cpu_of(server, lambda: time.sleep(2)) / 2
        started = time.monotonic()
        before = server.cpu_seconds()
        for _ in range(30):
            streams = [connection.open(messages.EMBED) for _ in range(60)]
            for number, stream in enumerate(streams):
                # More than become free meanwhile.
                texts = [f"{number} {text} {time.time_ns()}" for text in range(250)]
                connection.upload(stream, framed(messages.embed(texts, skip_cache=1, dimensions=8)))
            for stream in streams:
                codes[connection.wait(stream, 30).code] += 1
        took = time.monotonic() - started
        spent = server.cpu_seconds() - before - working * took
    refused = codes["RESOURCE_EXHAUSTED"]
    report.check(refused > 1000, f"{dict(codes)}")
    report.check(
        spent < 0.001 * sum(codes.values()) + 2,
        f"{spent:.1f} s of CPU beside inference, for {sum(codes.values())} requests",
    )


@attack("P07", "Sixteen clients that read /metrics without pause do not keep callers from being served.")
def metrics_flood(server, report):
    end = threading.Event()
    counts = [0] * 16

    def read(number):
        while not end.is_set():
            try:
                server.get("/metrics", 5)
                counts[number] += 1
            except OSError:
                pass

    threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(16)]
    for thread in threads:
        thread.start()
    codes = [server.embed(f"beside metrics, {number} {time.time_ns()}")[1] for number in range(10)]
    end.set()
    for thread in threads:
        thread.join()
    report.check(codes == ["OK"] * 10, f"{codes} beside {sum(counts)} scrapes")


ODD_TEXTS = {
    "one word": "a" * MAX_TEXT_BYTES,
    "spaces": " " * MAX_TEXT_BYTES,
    "NUL": "\0" * MAX_TEXT_BYTES,
    "combining marks": "a" + "\u0301" * 32_000,
    "unordered marks": "\u0345\u0301\u0328\u0315" * 8000,
    "a ligature of 18 letters": "\ufdfa" * 21_000,
    "joined emoji": "\U0001f468\u200d" * 9000,
    "right to left": "\u202e" * 21_000,
    "Han": "\u4e00" * 21_000,
    "Han of plane 2": "\U00020000" * 16_000,
    "<mask>": "<mask>" * 10_000,
    "spaces before <mask>": " " * 50_000 + "<mask>",
    "</s>": "</s>" * 16_000,
    "[UNK]": "[UNK]" * 13_000,
    "Hangul": "\uac01" * 21_000,
    "dotted I": "\u0130" * 32_000,
    "replacement characters": "\ufffd" * 21_000,
    "private use": "\U0010ffff" * 16_000,
    "control characters": "\x01\x02\x7f" * 21_000,
    "CRLF": "\r\n" * 32_000,
    "hard words": HARD_TEXT,
    "digits": "1 " * 32_000,
    "letters and punctuation": "a!" * 32_000,
    "byte order marks": "\ufeff" * 21_000,
}


@attack("P08", "Each odd text of 64 KiB is answered after less than 3 s of CPU.")
def odd_texts(server, report):
    for name, text in ODD_TEXTS.items():
        text = text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
        for path, message in [
            (messages.EMBED, messages.embed([text], skip_cache=1)),
            (messages.TOKENIZE, messages.tokenize(text)),
        ]:
            codes = []
            spent = cpu_of(server, lambda: codes.append(server.call(path, message, wait=60).code))
            ok = codes[0] in ("OK", "INVALID_ARGUMENT") and spent < 3
            if not ok or path == messages.EMBED:
                report.check(ok, f"{name} to {path.rsplit('/', 1)[1]}: {codes[0]} after {spent:.2f} s of CPU")
    server.check_well(report)


@attack(
    "P09",
    "Floods of methods that only tokenize leave room for a caller's text, whatever the number of connections.",
    fresh=True,
)
def tokenization_floods(server, report):
    end = threading.Event()
    hard = HARD_TEXT
    counts = collections.Counter()

    def flood(number):
        path, message = [
            (messages.TOKENIZE, messages.tokenize(hard)),
            (messages.COUNT_TOKENS, messages.count_tokens([hard] * 20)),
        ][number % 2]
        while not end.is_set():
            try:
                with Connection(server.grpc, source=peers(6)[number], timeout=60) as connection:
                    streams = [connection.start(path, message) for _ in range(20)]
                    for stream in streams:
                        if end.is_set():
                            break
                        counts[connection.wait(stream, 10).code] += 1
            except OSError:
                counts["connection ended"] += 1

    threads = [threading.Thread(target=flood, args=(number,), daemon=True) for number in range(6)]
    with HealthWatch(server) as health:
        for thread in threads:
            thread.start()
        time.sleep(1)
        codes = [server.embed(f"beside floods, {number} {time.time_ns()}", wait=20)[1] for number in range(5)]
        end.set()
        health.check(report)
    for thread in threads:
        thread.join(20)
    report.check(codes == ["OK"] * 5, f"another caller: {codes}; the floods: {dict(counts)}")
    server.check_well(report)


@attack("P10", "HTTP bodies of 8 MiB of hard words take less than 40 s of CPU in all; health is answered.", fresh=True)
def hard_bodies(server, report):
    texts = ",".join(f'"{text}"' for text in hard_texts(120))
    body = f'{{"model":"{server.model}","input":[{texts}]}}'.encode()
    codes = []
    with HealthWatch(server) as health:

        def attempt():
            try:
                codes.append(server.openai(body, timeout=40))
            except TimeoutError:
                codes.append("left after 40 s")

        spent = cpu_of(server, lambda: together([attempt] * 4))
        health.check(report)
    report.note(f"{codes}, {spent:.0f} s of CPU; the model runs meanwhile")
    server.check_well(report)
