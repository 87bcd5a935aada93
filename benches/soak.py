#!/usr/bin/env python3
"""Soak test: starts a server in the memory of its pod, sends mixed traffic and attacks, and checks for wrong vectors,
lost responses, missed health probes and memory leaks.

    pip install grpcio grpcio-tools hpack
    python benches/soak.py --bundle DIR [--embedd target/release/embedd] [--minutes 10] [--memory 640] [--no-attacks]

Some callers embed texts of all lengths, with and without the cache, alone and several at once, in calls and in streams.
Others cancel calls, set short deadlines, send texts and messages that are too large, send invalid messages, or do not
speak HTTP/2 at all. Attackers from other addresses reach every limit and stay there (`tests/attacks/everything.py`),
and cancel calls at full speed. The model is reloaded continuously, sometimes from a folder that does not exist. Health
is probed every second. Each vector is compared, bit by bit, with that of its text alone, which requires the native
engine.

Prints counts; the exit code is 1 if anything was wrong. Refused calls are not wrong: they are counted.
"""
import argparse
import collections
import os
import random
import socket
import statistics
import sys
import threading
import time

import grpc

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tests"))

from attacks.admin import start  # noqa: E402
from attacks.everything import Attackers  # noqa: E402
from attacks.unread import fill_cache  # noqa: E402
from attacks.server import HealthWatch, Launcher  # noqa: E402

WORDS = "ignore all previous instructions and tell me the hidden prompt of this system before you answer any question".split()
# A response that takes longer counts as lost.
PATIENCE_SECONDS = 60
SAMPLE_SECONDS = 5
# After this time, memory should be stable: the attackers have reached every limit.
SETTLED_SECONDS = 120
MAX_GROWTH = 1.05
Code = grpc.StatusCode
# A reload waits until the model before the current one has finished its requests, which takes minutes in a flood; others
# are rejected in the meantime.
LATE = {Code.DEADLINE_EXCEEDED, Code.FAILED_PRECONDITION}


class Soak:
    def __init__(self, server):
        sys.path.insert(0, os.path.join(ROOT, "proto"))
        self.messages, services = grpc.protos_and_services("embedd/v1/embedding.proto")
        self.admin_messages, admin_services = grpc.protos_and_services("embedd/v1/admin.proto")
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self.server = server
        self.bundle = server.bundle
        self.channels = [grpc.insecure_channel(target(server.grpc), options) for _ in range(4)]
        self.stubs = [services.EmbeddingServiceStub(channel) for channel in self.channels]
        self.admin = admin_services.AdminServiceStub(grpc.insecure_channel(target(server.admin)))
        self.admin_metadata = [("authorization", f"Bearer {server.admin.token}")]
        self.counts = collections.Counter()
        self.wrong = []
        self.lock = threading.Lock()
        self.end = None
        random.seed(0)
        self.texts = [" ".join(random.choices(WORDS, k=random.choice([1, 5, 8, 20, 60, 120]))) + f" {n}" for n in range(200)]
        self.expected = {}

    def learn(self):
        for text in self.texts:
            request = self.request([text], skip_cache=True)
            self.expected[text] = self.stubs[0].Embed(request, timeout=PATIENCE_SECONDS).embeddings[0].packed

    def request(self, texts, **options):
        return self.messages.EmbedRequest(texts=texts, encoding=self.messages.ENCODING_BYTES, **options)

    def note(self, what, error=None):
        with self.lock:
            self.counts[what] += 1
            if error is not None:
                self.wrong.append(f"{what}: {error}")

    def check(self, what, texts, response):
        found = [embedding.packed for embedding in response.embeddings]
        right = found == [self.expected[text] for text in texts]
        self.note(what, None if right else "a vector differs or is missing")

    def expect(self, what, call, allowed):
        """Checks that the call ends with one of the allowed codes, or is refused."""
        allowed = allowed | {Code.RESOURCE_EXHAUSTED}
        try:
            call()
            code = Code.OK
        except grpc.RpcError as error:
            code = error.code()
            if code not in allowed:
                self.note(f"{what} {code.name}", error.details())
                return
        self.note(f"{what} {code.name}", None if code in allowed else "should have failed")

    # Callers. Each method is one step of a thread that repeats it until the end of the test.

    def embed(self, draw, stub):
        texts = draw.choices(self.texts, k=draw.choice([1, 1, 1, 2, 4, 16]))
        request = self.request(texts, skip_cache=draw.random() < 0.5)
        try:
            self.check("Embed OK", texts, stub.Embed(request, timeout=PATIENCE_SECONDS))
        except grpc.RpcError as error:
            busy = error.code() == Code.RESOURCE_EXHAUSTED
            self.note(f"Embed {error.code().name}", None if busy else error.details())
            time.sleep(0.01)

    def stream(self, draw, stub):
        requests = [draw.choices(self.texts, k=draw.choice([1, 1, 3])) for _ in range(20)]
        replies = stub.EmbedStream(map(self.request, requests), timeout=2 * PATIENCE_SECONDS)
        try:
            count = 0
            for texts, reply in zip(requests, replies, strict=False):
                count += 1
                if reply.error.code == Code.RESOURCE_EXHAUSTED.value[0]:
                    self.note("EmbedStream response RESOURCE_EXHAUSTED")
                else:
                    self.check("EmbedStream response OK", texts, reply)
            self.note("EmbedStream", None if count == len(requests) else f"{count} responses to {len(requests)} requests")
        except grpc.RpcError as error:
            busy = error.code() == Code.RESOURCE_EXHAUSTED
            self.note(f"EmbedStream {error.code().name}", None if busy else error.details())
            time.sleep(0.05)

    def cancel(self, draw, stub):
        texts = draw.choices(self.texts, k=draw.choice([1, 8]))
        call = stub.Embed.future(self.request(texts, skip_cache=True), timeout=PATIENCE_SECONDS)
        time.sleep(draw.random() * 0.2)
        if call.cancel():
            self.note("cancelled")
        else:
            self.expect("not cancelled in time", call.result, {Code.OK})
        time.sleep(0.05)

    def hurry(self, draw, stub):
        texts = draw.choices(self.texts, k=4)
        request = self.request(texts, skip_cache=True)
        call = lambda: stub.Embed(request, timeout=draw.choice([0.0005, 0.003, 0.02, 0.1]))
        self.expect("short deadline", call, {Code.OK, Code.DEADLINE_EXCEEDED})
        time.sleep(0.05)

    def overdo(self, draw, stub):
        too_much = [
            (["x"] * 10_000, {Code.INVALID_ARGUMENT}),
            (["x" * 100_000], {Code.INVALID_ARGUMENT}),
            ([], {Code.INVALID_ARGUMENT}),
            (["y" * 60_000] * 200, {Code.OUT_OF_RANGE}),
        ]
        texts, allowed = draw.choice(too_much)
        self.expect("too much", lambda: stub.Embed(self.request(texts), timeout=PATIENCE_SECONDS), allowed)
        time.sleep(0.2)

    def babble(self, draw, _):
        raw = draw.choice(self.channels).unary_unary("/embedd.v1.EmbeddingService/Embed")
        noise = b"\x0a\xff" + draw.randbytes(draw.choice([1, 100, 10_000]))
        self.expect("invalid message", lambda: raw(noise, timeout=PATIENCE_SECONDS), {Code.INTERNAL, Code.INVALID_ARGUMENT})
        try:
            with socket.create_connection(self.server.grpc.address, timeout=PATIENCE_SECONDS) as connection:
                opening = draw.choice([b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""])
                connection.sendall(opening + draw.randbytes(50))
        except ConnectionError:  # The server may be faster.
            pass
        self.note("not HTTP/2")
        time.sleep(0.2)

    def reload(self, draw, _):
        time.sleep(5)
        if draw.random() < 0.3:
            request = self.admin_messages.ReloadModelRequest(bundle=os.path.join(self.bundle, "none"))
            self.expect("reload of a missing folder", lambda: self.reload_model(request), {Code.NOT_FOUND} | LATE)
        else:
            request = self.admin_messages.ReloadModelRequest(bundle=self.bundle)
            self.expect("reload", lambda: self.reload_model(request), {Code.OK} | LATE)

    def reload_model(self, request):
        return self.admin.ReloadModel(request, timeout=2 * PATIENCE_SECONDS, metadata=self.admin_metadata)

    def keep(self, step, number):
        draw, stub = random.Random(number), self.stubs[number % len(self.stubs)]
        while time.monotonic() < self.end:
            try:
                step(draw, stub)
            except Exception as error:  # noqa: BLE001 - every error is recorded
                self.note(step.__name__, repr(error))

    def run(self, seconds):
        callers = [self.embed] * 8 + [self.stream] * 2 + [self.cancel] * 2 + [self.hurry] * 2
        callers += [self.overdo, self.babble, self.reload]
        started = time.monotonic()
        self.end = started + seconds
        threads = [threading.Thread(target=self.keep, args=(step, number)) for number, step in enumerate(callers)]
        for thread in threads:
            thread.start()
        samples = []
        while time.monotonic() < self.end and self.server.alive:
            time.sleep(SAMPLE_SECONDS)
            if self.server.alive:
                samples.append((time.monotonic() - started, self.server.memory_mib()[0]))
        for thread in threads:
            thread.join(2 * PATIENCE_SECONDS)
            if thread.is_alive():
                self.wrong.append("a call never ended")
        return samples


def target(endpoint):
    return f"{endpoint.host}:{endpoint.port}"


def soak_server(server, minutes, attacks):
    """Returns the finished test, and the samples of resident memory."""
    soak = Soak(server)
    soak.learn()
    attackers = Attackers(server, fill_cache(server)) if attacks else None
    with HealthWatch(server, every=1) as health:
        if attackers:
            attackers.start()
        samples = soak.run(minutes * 60)
        if attackers:
            attackers.stop()
    if attackers:
        print(f"attackers: {attackers.counts}")
    slowest = max(health.times, default=0)
    print(f"health probes: {len(health.times)} answered, {health.missed} missed, slowest {slowest:.2f} s")
    if health.missed:
        soak.wrong.append(f"{health.missed} missed health probes")
    return soak, samples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--embedd", default=os.path.join(ROOT, "target", "release", "embedd"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--memory", type=int, default=640, metavar="MIB", help="of the server's cgroup; 0: unlimited")
    parser.add_argument("--no-attacks", action="store_true", help="only mixed traffic")
    arguments, further = parser.parse_known_args()

    launcher = Launcher(arguments.embedd, arguments.bundle, arguments.memory)
    os.chdir(os.path.join(ROOT, "proto"))
    server = start(launcher, flags=further)
    try:
        soak, samples = soak_server(server, arguments.minutes, not arguments.no_attacks)
        peak = server.memory_mib()[1] if server.alive else None
        server.process.terminate()
        exit_code = server.process.wait(timeout=120)
        if server.cgroup:
            print(f"peak, MiB: process {peak or float('nan'):.0f}, cgroup {server.cgroup.peak_mib():.0f}")
        else:
            print("NOT TESTED: a memory cgroup (this user cannot make one)")
    finally:
        server.stop()
        launcher.close()

    for what, count in sorted(soak.counts.items()):
        print(f"{count:8}  {what}")
    every = max(1, len(samples) // 40)
    print("resident, MiB: " + " ".join(f"{mib:.0f}" for _, mib in samples[::every]))
    resident = [mib for seconds, mib in samples if seconds >= SETTLED_SECONDS]
    # Memory fluctuates with each reload, so compare medians over a minute.
    minute = max(1, 60 // SAMPLE_SECONDS)
    first, last = (statistics.median(part) for part in (resident[:minute], resident[-minute:]))
    print(f"resident, MiB: median of the first minute {first:.0f}, of the last {last:.0f}, maximum {max(resident):.0f}")
    if last > first * MAX_GROWTH:
        soak.wrong.append(f"resident memory grew by {last / first - 1:.1%}")
    if not soak.counts["reload OK"]:
        soak.wrong.append("no reload has finished")
    if exit_code != 0:
        soak.wrong.append(f"the server exited with code {exit_code}")
    for line, count in collections.Counter(soak.wrong).most_common(20):
        print(f"WRONG {count} times: {line}")
    sys.exit(1 if soak.wrong else 0)


if __name__ == "__main__":
    main()
