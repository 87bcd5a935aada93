"""A: the admin service, and bundles that are made to do harm."""

import collections
import json
import os
import random
import re
import socket
import stat
import subprocess
import tempfile
import threading
import time

from attacks import messages
from attacks.bundles import (
    CraftedBundle,
    broken_manifests,
    broken_tokenizers,
    broken_weights,
    split_safetensors,
)
from attacks.files import cached_library
from attacks.messages import field, framed, varint
from attacks.server import HealthWatch, MemoryWatch, together
from attacks.suite import FAIR_MIB, attack
from attacks.wire import Connection, Endpoint, call

REFUSED = ("FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED")
BEYOND_ROOTS = [
    "/etc",
    "/",
    "../../etc",
    "..",
    ".",
    "/proc/self",
    "/proc/self/fd",
    "/dev",
    "/dev/null",
    "/dev/stdin",
    "/etc/passwd",
    "/root",
    "/root/.ssh",
    "/no-such-folder",
    "//",
    "a\0b",
    "~",
    "$HOME",
    "file:///etc",
    "\\\\host\\share",
    "x" * 5000,
    "/proc/self/cwd/../../../../etc",
    "\xff",
    "/tmp/\n[ERROR] forged line",
]


def start(launcher, flags=(), **launch):
    """A server that may load the crafted bundles."""
    roots = launcher.optional(f"--bundle-roots={launcher.bundles}")
    return launcher.start(flags=[*roots, *flags], **launch)


def reload(server, folder, wait=60):
    return server.admin_call(messages.RELOAD, field(1, os.fspath(folder)), wait=wait)


def fingerprint(server):
    found = re.search(r'embedd_model_info\{[^}]*fingerprint="([^"]*)"', server.get("/metrics"))
    return found.group(1) if found else None


def check_refused(server, report, what, reply, before):
    same = server.alive and fingerprint(server) == before
    ok = reply.code in REFUSED and same and "root:" not in reply.message and len(reply.message) < 4096
    return report.check(
        ok,
        f"{what}: {reply.code} {reply.message[:90]}"
        + ("" if same else "; the model has changed, or the server is dead"),
    )


@attack("A01", "Paths beyond the bundle folders are refused alike, whether or not they exist.", own_server=True)
def paths(launcher, report):
    with start(launcher) as server:
        before = fingerprint(server)
        answers = collections.defaultdict(list)
        for path in BEYOND_ROOTS:
            reply = reload(server, path)
            check_refused(server, report, repr(path[:40]), reply, before)
            # The path itself may be repeated.
            answers[reply.code].append(path)
        existing = {
            reload(server, path).code
            for path in ("/root", "/etc", "/etc/passwd", "/no-such-folder", "/etc/no-such-file")
        }
        report.check(len(existing) == 1, f"a folder, a file and a missing path get the same answer: {existing}")
        server.check_well(report)


@attack("A02", "A FIFO as a manifest does not block this reload or later ones.", own_server=True)
def fifo(launcher, report):
    with start(launcher) as server, CraftedBundle(launcher) as crafted:
        before = fingerprint(server)
        for name in ("manifest.json", "tokenizer.json", "model_native.safetensors"):
            os.unlink(crafted.path(name))
            os.mkfifo(crafted.path(name))
            reply = reload(server, crafted.folder, wait=20)
            check_refused(server, report, f"{name} is a FIFO", reply, before)
            crafted.replace(name, crafted.read(name))
        reply = reload(server, launcher.bundle)
        report.check(reply.code == "OK", f"a later reload: {reply.code} {reply.message[:80]}")
        server.check_well(report)


@attack(
    "A03", "Links to /dev/zero and links out of the bundle are refused, and take less than 128 MiB.", own_server=True
)
def links(launcher, report):
    with start(launcher) as server, CraftedBundle(launcher) as crafted:
        before = fingerprint(server)
        for name in ("manifest.json", "tokenizer.json", "config.json"):
            for target in ("/dev/zero", "/dev/urandom", "/etc/passwd", "/proc/self/mem"):
                os.unlink(crafted.path(name))
                os.symlink(target, crafted.path(name))
                with MemoryWatch(server) as memory:
                    reply = reload(server, crafted.folder, wait=20)
                    grown = memory.grown
                check_refused(server, report, f"{name} -> {target}", reply, before)
                report.check(grown < FAIR_MIB, f"memory grew by {grown:.0f} MiB")
                if not server.alive:
                    return
            crafted.replace(name, crafted.read(name))
        outside = os.path.join(launcher.bundles, "outside")
        os.symlink("/etc", outside)
        check_refused(server, report, "a link to a folder outside", reload(server, outside), before)
        os.unlink(outside)
        server.check_well(report)


@attack(
    "A04", "Broken weights with the right checksum are refused, and the old model goes on serving.", own_server=True
)
def weights(launcher, report):
    with start(launcher) as server, CraftedBundle(launcher) as crafted:
        before = fingerprint(server)
        name = "model_native.safetensors"
        header, body = split_safetensors(crafted.read(name))
        for what, data in broken_weights(header, body):
            crafted.write(name, data)
            check_refused(server, report, what, reload(server, crafted.folder), before)
            if not server.alive:
                return
        server.check_well(report)


@attack("A05", "Broken manifests are refused, and nothing outside the bundle is opened.", own_server=True)
def manifests(launcher, report):
    with start(launcher) as server, CraftedBundle(launcher) as crafted:
        before = fingerprint(server)
        for what, manifest in broken_manifests(crafted.manifest):
            crafted.write_manifest(manifest)
            check_refused(server, report, what, reload(server, crafted.folder), before)
        for what, data in {
            "empty": b"",
            "nested": b"[" * 200_000,
            "not UTF-8": b"\xff\xfe",
            "100 MB of blanks": b" " * 100_000_000 + b"{}",
        }.items():
            crafted.replace("manifest.json", data)
            with MemoryWatch(server) as memory:
                check_refused(server, report, f"a manifest that is {what}", reload(server, crafted.folder), before)
                report.check(memory.grown < 32, f"memory grew by {memory.grown:.0f} MiB")
        server.check_well(report)


@attack(
    "A06",
    "Graphs with changed bytes are refused, or pass the accuracy gate; ONNX Runtime does not crash.",
    own_server=True,
    slow=True,
)
def changed_graphs(launcher, report):
    draw = random.Random(3)
    codes = collections.Counter()
    with start(launcher) as server, CraftedBundle(launcher) as crafted:
        name = crafted.manifest["models"]["native"]["file"]
        good = crafted.read(name)
        for number in range(60):
            data = bytearray(good)
            for _ in range(draw.choice([1, 2, 8])):
                change(data, draw)
            crafted.write(name, bytes(data))
            codes[reload(server, crafted.folder).code] += 1
            if not report.check(server.alive, f"graph {number}") or not server.alive:
                return
        report.check(set(codes) <= {"OK", *REFUSED}, f"{dict(codes)}")
        reload(server, launcher.bundle)
        server.check_well(report)


def change(data, draw):
    at = draw.randrange(len(data))
    kind = draw.randrange(4)
    if kind == 0:
        data[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        data[at] = draw.choice([0, 0x7F, 0x80, 0xFF])
    elif kind == 2:
        del data[at : at + draw.randrange(1, 8)]
    else:
        data[at:at] = draw.randbytes(draw.randrange(1, 8))


@attack(
    "A07",
    "The admin service needs its token, and is not on the service's listener nor on other addresses.",
    own_server=True,
)
def reach(launcher, report):
    with start(launcher) as server:
        for token in ("", "wrong", launcher.admin_token[:-1]):
            for path in (messages.STATS, messages.RELOAD, messages.BENCHMARK, messages.VALIDATE):
                code = call(server.admin, path, field(1, "/etc") if path == messages.RELOAD else b"", token=token).code
                report.check(code == "UNAUTHENTICATED", f"{path} with the token `{token}`: {code}")
        code = server.call(messages.RELOAD, field(1, "/etc")).code
        report.check(code in ("UNIMPLEMENTED", "UNAUTHENTICATED"), f"on the service's listener: {code}")
        addresses = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None)}
        for address in sorted(address for address in addresses if not address.startswith(("127.", "::1"))):
            try:
                Endpoint(address, server.admin.port).connect(2).close()
                report.check(False, f"{address}: open")
            except OSError as error:
                report.check(True, f"{address}: {error}")


@attack(
    "A08",
    "Without --admin-token-file, the admin service on loopback needs a token that only the server's user can read.",
    own_server=True,
)
def generated_token(launcher, report):
    library, _ = cached_library()
    home = tempfile.mkdtemp(dir=launcher.folder)
    flags = ["--home", home, "--onnxruntime", library]
    with launcher.start(admin_token_file=False, flags=flags) as server:
        code = call(server.admin, messages.STATS).code
        report.check(code == "UNAUTHENTICATED", f"without a token: {code}")
        path = os.path.join(home, "admin.token")
        if report.check(os.path.exists(path), f"{os.listdir(home)}"):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            report.check(mode & 0o077 == 0, f"mode {mode:o}")
            with open(path, encoding="utf-8") as file:
                tokens = [line.strip() for line in file if line.strip() and not line.startswith("#")]
            code = call(server.admin, messages.STATS, token=tokens[0]).code
            report.check(code == "OK", f"with the token of {os.path.basename(path)}: {code}")


@attack("A09", "20 reloads at once: one at a time, memory for two models at most, health answered.", own_server=True)
def reloads_at_once(launcher, report):
    codes = collections.Counter()
    with start(launcher) as server:
        with MemoryWatch(server) as memory, HealthWatch(server) as health:
            together([lambda: codes.update([reload(server, launcher.bundle, wait=120).code])] * 20)
            report.check(memory.grown < 250, f"memory grew by {memory.grown:.0f} MiB")
            health.check(report)
        report.check(set(codes) <= {"OK", "FAILED_PRECONDITION"} and codes["OK"] >= 1, f"{dict(codes)}")
        server.check_well(report)


@attack("A10", "Broken tokenizers are refused, or their texts answered with bounded CPU and memory.", own_server=True)
def tokenizers(launcher, report):
    with start(launcher) as server, CraftedBundle(launcher) as crafted:
        before = fingerprint(server)
        for what, tokenizer in broken_tokenizers(json.loads(crafted.read("tokenizer.json"))):
            crafted.write("tokenizer.json", json.dumps(tokenizer).encode())
            with MemoryWatch(server) as memory:
                reply = reload(server, crafted.folder)
                if reply.code != "OK":
                    check_refused(server, report, what, reply, before)
                    continue
                spent = server.cpu_seconds()
                code = server.call(
                    messages.EMBED, messages.embed(["a" * 60 + "!", "the <evil> text"], skip_cache=1)
                ).code
                spent = server.cpu_seconds() - spent
                report.check(
                    spent < 10 and memory.grown < 400,
                    f"{what}: accepted; a text: {code}, {spent:.1f} s of CPU, {memory.grown:.0f} MiB",
                )
            reload(server, launcher.bundle)
            before = fingerprint(server)
        server.check_well(report)


@attack(
    "A11", "Files that change while they are read are an error, and files cut short later harm nobody.", own_server=True
)
def changing_files(launcher, report):
    end = threading.Event()
    codes = collections.Counter()
    with start(launcher) as server, CraftedBundle(launcher) as crafted:
        name = "model_native.safetensors"
        data = crafted.read(name)
        crafted.replace(name, data)
        path = crafted.path(name)

        def cut_and_restore():
            while not end.is_set():
                os.truncate(path, len(data) // 2)
                time.sleep(0.02)
                with open(path, "r+b") as file:
                    file.seek(len(data) // 2)
                    file.write(data[len(data) // 2 :])
                time.sleep(0.05)

        thread = threading.Thread(target=cut_and_restore, daemon=True)
        thread.start()
        for _ in range(6):
            codes[reload(server, crafted.folder).code] += 1
        end.set()
        thread.join()
        report.check(set(codes) <= {"OK", *REFUSED}, f"reloads while the file changes: {dict(codes)}")
        crafted.replace(name, data)
        loaded = reload(server, crafted.folder).code
        os.truncate(path, 0)
        code = server.embed(f"after the cut, {time.time_ns()}")[1]
        report.check(
            loaded == "OK" and code == "OK", f"the file of the model that serves is cut: loaded {loaded}, a text {code}"
        )
        server.check_well(report)


@attack(
    "A12",
    "Admin calls that ask for too much are refused, and a benchmark ends when its caller leaves.",
    own_server=True,
)
def bounds(launcher, report):
    most = 0xFFFFFFFF
    with start(launcher) as server:
        benchmarks = {
            "requests": field(4, most),
            "batch sizes": field(2, most),
            "concurrency": field(3, most),
            "tokens": field(1, most),
            "no requests": field(4, 0),
            "100,000 token counts": field(1, varint(11) * 100_000),
            "the product": field(1, varint(11) * 50) + field(2, varint(1) * 50) + field(3, varint(1) * 50),
        }
        for what, message in benchmarks.items():
            reply = server.admin_call(messages.BENCHMARK, message, wait=20)
            report.check(
                reply.code == "INVALID_ARGUMENT" and len(reply.message) < 4096,
                f"benchmark, {what}: {reply.code} {reply.message[:60]}",
            )
        for what, message in validations(dimension=768).items():
            with MemoryWatch(server) as memory:
                reply = server.admin_call(messages.VALIDATE, message)
                report.check(
                    reply.code in ("INVALID_ARGUMENT", "OUT_OF_RANGE") and len(reply.message) < 4096,
                    f"validate, {what}: {reply.code} {reply.message[:60]}",
                )
                report.check(memory.grown < 64, f"memory grew by {memory.grown:.0f} MiB")
        with Connection(server.admin) as connection:
            connection.start(messages.BENCHMARK, field(4, 10_000))
            connection.pump(2)
            second = server.admin_call(messages.BENCHMARK, field(4, 10))
            report.check(second.code == "FAILED_PRECONDITION", f"a second benchmark: {second.code}")
        time.sleep(1)
        third = server.admin_call(messages.BENCHMARK, field(4, 5) + field(1, varint(11)))
        report.check(third.code == "OK", f"after the first caller has left: {third.code} {third.message[:60]}")
        server.check_well(report)


def validations(dimension):
    import struct

    pair = field(1, "a") + field(2, struct.pack("<f", 1.0) * dimension)
    nan = field(1, "a") + field(2, struct.pack("<f", float("nan")) * dimension)
    return {
        "1,001 pairs": field(1, pair) * 1001,
        "a vector of 1": field(1, field(1, "a") + field(2, struct.pack("<f", 1.0))),
        "NaN": field(1, nan),
        "2,000,000 empty pairs": field(1, b"") * 2_000_000,
        "a vector of zeros": field(1, field(1, "a") + field(2, bytes(4 * dimension))),
        "a threshold of NaN": field(1, pair) + b"\x11" + struct.pack("<d", float("nan")),
    }


@attack("A13", "Health reports NOT_SERVING when a session hangs, and SERVING again afterwards.", own_server=True)
def hanging_session(launcher, report):
    from attacks.tracing import suspended_thread

    flags = launcher.optional("--watchdog=3s")
    if not flags:
        report.note("this program has no setting for its watchdog")
    with launcher.start(flags=flags) as server:
        with suspended_thread(server.pid, "session-") as suspended:
            report.check(suspended > 0, f"{suspended} session threads suspended")
            with Connection(server.grpc) as connection:
                connection.start(messages.EMBED, messages.embed([f"never computed {time.time_ns()}"]))
                started = time.monotonic()
                serving = True
                while serving and time.monotonic() - started < 30:
                    serving = server.probe() is not None
                    time.sleep(0.5)
                report.check(not serving, f"NOT_SERVING after {time.monotonic() - started:.0f} s: {not serving}")
        started = time.monotonic()
        while server.probe() is None and time.monotonic() - started < 30:
            time.sleep(0.5)
        report.check(server.probe() is not None, "SERVING again")
        server.check_well(report)


@attack("A14", "A log that nobody reads blocks neither callers nor probes.", own_server=True)
def blocked_log(launcher, report):
    with launcher.start(blocked_log=True, flags=["--log-level", "debug"]) as server:
        # More lines than a pipe holds (64 KiB), from every place that logs.
        with Connection(server.grpc) as connection:
            for _ in range(600):
                connection.call(messages.EMBED, b"\x0b\xff", wait=5)
                if connection.ended or server.probe() is None:
                    break
            for number in range(100):
                connection.call(messages.EMBED, messages.embed([f"{number}"]), wait=5)
        probes = [server.probe() for _ in range(5)]
        report.check(None not in probes, f"probes: {probes}")
        server.check_well(report)


@attack("A15", "The server drains and exits within its time while attackers hold connections.", own_server=True)
def drain(launcher, report):
    flags = ["--shutdown-grace", "1s", "--drain-timeout", "5s"]
    with launcher.start(flags=flags) as server:
        held = []
        for _ in range(50):
            connection = Connection(server.grpc, settings=[(4, 0)])
            connection.start(messages.EMBED, messages.embed(["held"]))
            connection.upload(connection.open(messages.EMBED), framed(b"xx", length=1000), end=False)
            held.append(connection)
            half = server.http.connect(2)
            half.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            )
            held.append(half)
        server.process.terminate()
        started = time.monotonic()
        try:
            code = server.process.wait(60)
        except subprocess.TimeoutExpired:
            code = "none"
        report.check(code == 0, f"exit code {code} after {time.monotonic() - started:.0f} s")
        for connection in held:
            connection.close()
