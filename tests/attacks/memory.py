"""M: memory for messages and texts that grow when they are decoded or tokenized."""

import time

from attacks import messages
from attacks.connections import peers
from attacks.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    PUNCTUATION,
    field,
    framed,
)
from attacks.server import HealthWatch, MemoryWatch, together
from attacks.suite import FAIR_MIB, REFUSED, attack, check_grown, outcomes
from attacks.wire import Connection


@attack("M01", "A ModelInfer of 400 KB with 200,000 empty tensors is refused; memory grows by less than 16 MiB.")
def empty_tensors(server, report):
    with MemoryWatch(server) as memory:
        reply = server.call(messages.MODEL_INFER, messages.infer(server.model) + b"\x2a\x00" * 200_000)
        report.check(reply.code == "INVALID_ARGUMENT", f"{reply.code} {reply.message[:80]}")
        check_grown(report, memory, "2 bytes on the wire are 312 in memory", 16)


def repeated_fields(model):
    """Requests of up to 8 MiB that consist of one repeated field, for every method that has one."""
    most = MAX_MESSAGE_BYTES - 100
    head = messages.infer(model)
    pair = field(1, b"")
    distinct = b"".join(field(4, field(1, f"{number:x}") + field(2, b"")) for number in range(500_000))
    tensors = messages.infer(model, [messages.tensor() + field(3, 1) * 2_000_000])
    typed = messages.infer(model, [messages.tensor(shape=[1], texts=[""] * 2_000_000)])
    return {
        "ModelInfer inputs": (messages.MODEL_INFER, head + b"\x2a\x00" * ((most - len(head)) // 2)),
        "ModelInfer outputs": (messages.MODEL_INFER, head + b"\x32\x00" * ((most - len(head)) // 2)),
        "ModelInfer raw contents": (messages.MODEL_INFER, head + b"\x3a\x00" * ((most - len(head)) // 2)),
        "ModelInfer parameters": (messages.MODEL_INFER, (head + distinct)[:most]),
        "ModelInfer shape": (messages.MODEL_INFER, tensors),
        "ModelInfer typed contents": (messages.MODEL_INFER, typed),
        "Embed texts": (messages.EMBED, b"\x0a\x00" * (most // 2)),
        "CountTokens texts": (messages.COUNT_TOKENS, b"\x0a\x00" * (most // 2)),
        "EmbedStream texts": (messages.EMBED_STREAM, b"\x0a\x00" * (most // 2)),
        "Decode ids": (messages.DECODE, field(1, b"\x02" * (most - 10))),
        "Decode ids, not packed": (messages.DECODE, b"\x08\x02" * (most // 2)),
        "unknown fields": (messages.EMBED, b"\x7a\x00" * (most // 2)),
        "one field 4,000,000 times": (messages.TOKENIZE, b"\x0a\x00" * (most // 2)),
        "groups": (messages.EMBED, b"\x7b" * 1_000_000),
        "pairs on the service's listener": (messages.VALIDATE, pair * (most // 2)),
    }


@attack(
    "M02",
    "A message of 8 MiB that consists of one repeated field is refused in every method, and takes little memory.",
    fresh=True,
)
def full_messages(server, report):
    for name, (path, message) in repeated_fields(server.model).items():
        with MemoryWatch(server) as memory:
            reply = server.call(path, message)
            refused = reply.code in REFUSED | {"UNIMPLEMENTED"} or path == messages.EMBED_STREAM and reply.messages
            report.check(refused, f"{name}: {reply.code} {reply.message[:60]}")
            # The received bytes themselves, and what the allocator keeps.
            check_grown(report, memory, f"{name}, {len(message) / 2**20:.1f} MiB", 80)
    server.check_well(report)


@attack("M03", "Four such messages at once, over four connections, take less than 128 MiB.", fresh=True)
def full_messages_at_once(server, report):
    for name in ("ModelInfer inputs", "Embed texts"):
        path, message = repeated_fields(server.model)[name]
        codes = []
        with MemoryWatch(server) as memory:
            together([lambda: codes.append(server.call(path, message, wait=120).code)] * 4)
            check_grown(report, memory, f"{name}: {outcomes(codes)}")
        report.check(set(codes) <= REFUSED, f"{name}: {outcomes(codes)}")
    server.check_well(report)


@attack(
    "M04", "Four OpenAI requests of 2,700,000 empty strings at once are refused and take less than 128 MiB.", fresh=True
)
def empty_strings(server, report):
    bodies = {
        "empty strings": b'{"model":"%s","input":[' % server.model.encode() + b'"",' * 2_700_000 + b'""]}',
        "lists of numbers": b'{"model":"%s","input":[' % server.model.encode() + b"[1]," * 2_000_000 + b"[]]}",
        "unknown keys": b'{"model":"%s",' % server.model.encode()
        + b"".join(b'"%x":[],' % number for number in range(700_000))
        + b'"input":1}',
    }
    for name, body in bodies.items():
        codes = []
        with MemoryWatch(server) as memory:
            together([lambda: codes.append(server.openai(body))] * 4)
            check_grown(report, memory, f"{name}, {len(body) / 1e6:.1f} MB")
        report.check(set(codes) <= {400, 413, 429, 503}, f"{name}: {outcomes(codes)}")
    server.check_well(report)


def tokenize_at_once(server, report, path, message, count, connections, limit):
    codes = []
    # Memory is at its peak long before the last text is done.
    leave = time.monotonic() + 20

    def attacker(number):
        with Connection(server.grpc, source=peers(connections)[number], timeout=120) as connection:
            streams = [connection.open(path) for _ in range(count // connections)]
            for stream in streams:
                connection.upload(stream, framed(message), timeout=max(0.0, leave - time.monotonic()))
            for stream in streams:
                reply = connection.wait(stream, max(0.0, leave - time.monotonic()))
                codes.append(reply.code if reply.ended or connection.ended else "still waiting")

    with MemoryWatch(server) as memory, HealthWatch(server) as health:
        together([lambda number=number: attacker(number) for number in range(connections)])
        check_grown(report, memory, f"{count} texts at once: {outcomes(codes)}", limit)
        health.check(report)
    report.check(set(codes) <= REFUSED | {"OK", "UNAVAILABLE", "still waiting"}, f"{outcomes(codes)}")
    server.check_well(report)


@attack("M12", "16 texts of 64 KiB of punctuation at once take less than 128 MiB.", fresh=True)
def punctuation(server, report):
    tokenize_at_once(server, report, messages.EMBED, messages.embed([PUNCTUATION], skip_cache=1), 16, 4, FAIR_MIB)


@attack("M13", "240 such texts at once take less than 200 MiB, in every method that tokenizes.", fresh=True)
def punctuation_of_many(server, report):
    for path, message in [
        (messages.COUNT_TOKENS, messages.count_tokens([PUNCTUATION])),
        (messages.TOKENIZE, messages.tokenize(PUNCTUATION)),
        (messages.EMBED, messages.embed([PUNCTUATION], skip_cache=1)),
    ]:
        report.note(path)
        tokenize_at_once(server, report, path, message, 240, 8, 200)


@attack(
    "M14",
    "Requests of 127 texts of 64 KiB, and texts whose normal form is 18 times as long, take less than 200 MiB.",
    fresh=True,
)
def large_requests(server, report):
    longer = "\ufdfa" * (MAX_TEXT_BYTES // 3)
    for text in (PUNCTUATION, longer):
        texts = [f"{number}{text}".encode()[: MAX_TEXT_BYTES - 3].decode(errors="ignore") for number in range(120)]
        tokenize_at_once(server, report, messages.COUNT_TOKENS, messages.count_tokens(texts), 8, 4, 200)
