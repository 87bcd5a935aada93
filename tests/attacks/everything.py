"""E: every limit at the same time."""

import threading
import time

from attacks import messages
from attacks.admin import reload, start
from attacks.cache_and_fairness import Flood, unique
from attacks.connections import HELLO, peers
from attacks.messages import MAX_MESSAGE_BYTES, PUNCTUATION, framed
from attacks.server import HealthWatch, MemoryWatch
from attacks.suite import attack
from attacks.unread import fill_cache
from attacks.wire import Connection

SECONDS = 40


@attack(
    "E01",
    "Under all attacks at once, in the memory of its pod, the server lives, answers every probe, and embeds bit by bit.",
    own_server=True,
)
def everything_at_once(launcher, report):
    with start(launcher) as server:
        known = {f"a known text of the small caller, {number}": None for number in range(5)}
        for text in known:
            known[text] = server.embed(text, skip_cache=1)[0].bits
        texts = fill_cache(server)
        attackers = Attackers(server, texts)
        small = SmallCaller(server, known)
        with MemoryWatch(server) as memory, HealthWatch(server, every=1) as health:
            attackers.start()
            small.start()
            reloads = []
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and server.alive:
                reloads.append(reload_code(server))
                time.sleep(6)
            small.stop()
            attackers.stop()
            peak = server.memory_mib()[1] if server.alive else float("nan")
            report.check(
                server.alive,
                server.death
                or f"alive; resident memory was at most {peak:.0f} MiB, {memory.grown:.0f} MiB more than before",
            )
            if server.cgroup:
                report.note(f"peak of the cgroup: {server.cgroup.peak_mib():.0f} MiB of {launcher.memory_mib}")
            report.check(peak < (launcher.memory_mib or 640), "the peak is below the pod's memory")
            health.check(report)
        report.check(
            small.wrong == 0,
            f"the small caller: {small.right} right vectors, {small.wrong} wrong ones, other outcomes {small.others}",
        )
        report.check(small.right > 0 and not small.others, "none of its calls failed")
        report.note(f"attackers: {attackers.counts}; reloads: {reloads}")
        server.check_well(report)


def reload_code(server):
    try:
        return reload(server, server.launcher.bundle).code
    except OSError as error:
        return repr(error)


class SmallCaller:
    """Embeds known and new texts, one at a time, and compares the bits of the known ones."""

    def __init__(self, server, known):
        self.server = server
        self.known = known
        self.right = 0
        self.wrong = 0
        self.others = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        self._end.set()
        self._thread.join(60)

    def _run(self):
        while not self._end.is_set() and self.server.alive:
            for text, bits in self.known.items():
                embedding, code = self.server.embed(text, skip_cache=1)
                if embedding is None:
                    self.others.append(code)
                elif embedding.bits == bits:
                    self.right += 1
                else:
                    self.wrong += 1
                self._end.wait(0.2)


class Attackers:
    """Each reaches one limit and stays there."""

    def __init__(self, server, cached):
        self.server = server
        self.cached = cached
        self.counts = {}
        self._end = threading.Event()
        kinds = [
            self.half_messages,
            self.tokenization,
            self.unread_replies,
            self.idle,
            self.large_messages,
            self.half_bodies,
        ]
        self._threads = [threading.Thread(target=self._repeat, args=(kind,), daemon=True) for kind in kinds]
        self._flood = Flood(server, connections=6, in_flight=8)

    def start(self):
        self._flood.__enter__()
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._end.set()
        self._flood.__exit__()
        for thread in self._threads:
            thread.join(30)
        self.counts["queue"] = dict(self._flood.codes)

    def _repeat(self, kind):
        while not self._end.is_set() and self.server.alive:
            try:
                kind()
            except OSError:
                pass
            self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1

    def _hold(self, connections, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._end.is_set():
            for connection in connections:
                connection.pump(0.02)
        for connection in connections:
            connection.close()

    def half_messages(self):
        held = []
        body = framed(b"x" * (4 << 20), length=MAX_MESSAGE_BYTES - 64)
        for source in peers(12):
            connection = Connection(self.server.grpc, source=source, timeout=3)
            held.append(connection)
            for _ in range(3):
                connection.upload(connection.open(messages.EMBED), body, end=False, timeout=1)
        self._hold(held)

    def tokenization(self):
        held = []
        for source in peers(8):
            connection = Connection(self.server.grpc, source=source, timeout=3)
            held.append(connection)
            for _ in range(30):
                connection.upload(connection.open(messages.TOKENIZE), framed(messages.tokenize(PUNCTUATION)), timeout=1)
        self._hold(held, 3)

    def unread_replies(self):
        held = []
        request = framed(messages.embed(self.cached))
        for source in peers(10):
            connection = Connection(self.server.grpc, settings=[(4, 0)], source=source, timeout=3)
            connection.returns_window = False
            held.append(connection)
            for _ in range(60):
                connection.upload(connection.open(messages.EMBED), request, timeout=1)
        self._hold(held)

    def idle(self):
        held = []
        for number in range(700):
            try:
                connection = self.server.grpc.connect(2, peers(40)[number % 40])
                held.append(connection)
                connection.sendall(HELLO)
            except OSError:
                break
        self._end.wait(5)
        for connection in held:
            connection.close()

    def large_messages(self):
        empty = messages.infer(self.server.model) + b"\x2a\x00" * 4_000_000
        self.server.call(messages.MODEL_INFER, empty, wait=20)
        # New texts, so that the cache fills up, too.
        self.server.call(messages.EMBED, messages.embed([unique(str(number)) for number in range(200)]), wait=20)

    def half_bodies(self):
        held = []
        head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 8000000\r\n\r\n"
        for source in peers(20):
            connection = self.server.http.connect(2, source)
            held.append(connection)
            try:
                connection.sendall(head + b"{" + b" " * (2 << 20))
            except OSError:
                pass
        self._end.wait(8)
        for connection in held:
            connection.close()
