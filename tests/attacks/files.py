"""F: the commands that fetch, convert and package, and the files that they use."""

import gzip
import http.server
import io
import json
import os
import resource
import shutil
import stat
import tarfile
import tempfile
import threading
import time

from attacks.bundles import join_safetensors
from attacks.suite import Skip, attack

FAILED = (1, 2, 64)
ESCAPED = "/tmp/embedd-escaped"
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def last_line(done):
    return (done.stderr or done.stdout or "").strip().replace("\n", " | ")[-120:]


def home_of_this_user():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("EMBEDD_HOME") or os.path.join(cache, "embedd")


def cached_library():
    """ONNX Runtime in the cache folder, and the folder with the record of its checksum."""
    for folder, _, names in os.walk(os.path.join(home_of_this_user(), "onnxruntime")):
        for name in names:
            if name.startswith("libonnxruntime.so"):
                return os.path.join(folder, name), folder
    raise Skip("ONNX Runtime is not in the cache folder")


@attack("F01", "`embedd fetch` runs no Python file of the working directory.", own_server=True)
def python_in_the_working_directory(launcher, report):
    with tempfile.TemporaryDirectory() as folder:
        mark = os.path.join(folder, "mark")
        here = os.path.join(folder, "here")
        os.mkdir(here)
        for name in ("pip.py", "random.py", "logging.py", "sitecustomize.py", "usercustomize.py"):
            with open(os.path.join(here, name), "w", encoding="utf-8") as file:
                file.write(f"open({mark!r}, 'a').write({name!r})\nraise SystemExit(3)\n")
        for environment in ({}, {"PYTHONPATH": here}):
            home = os.path.join(folder, f"home-{len(environment)}")
            done = launcher.run(
                "fetch", "--no-model", cwd=here, environment={"EMBEDD_HOME": home, **environment}, timeout=200
            )
            ran = open(mark, encoding="utf-8").read() if os.path.exists(mark) else ""
            # Whoever sets PYTHONPATH has asked for it.
            report.check(
                not ran or bool(environment), f"run: {ran or 'nothing'}; exit code {done.returncode}: {last_line(done)}"
            )


class Hub(http.server.ThreadingHTTPServer):
    """A hub that answers with `respond(handler)`, and records what it was asked."""

    daemon_threads = True

    def __init__(self, respond):
        hub = self
        self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.requests.append((self.path, self.headers.get("authorization")))
                try:
                    respond(self)
                except OSError:
                    pass
                self.close_connection = True

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


def answer(handler, status=200, headers=(), body=b"", length=None):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def fetch(launcher, home, hub, timeout=60):
    environment = {
        "EMBEDD_HOME": home,
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": "hf_secret",
        "EMBEDD_ONNXRUNTIME": "/bin/true",
    }
    return launcher.run("fetch", "--from", "hub", "--model", "evil/model", environment=environment, timeout=timeout)


@attack(
    "F02",
    "HF_TOKEN is sent to the hub only: not to where it redirects, not to the log, not to a file.",
    own_server=True,
)
def hub_token(launcher, report):
    with Hub(lambda handler: answer(handler, body=b"[]")) as other, tempfile.TemporaryDirectory() as home:
        with Hub(lambda handler: answer(handler, 302, [("location", other.address + handler.path)])) as hub:
            done = fetch(launcher, home, hub)
        report.check(
            "hf_secret" not in done.stdout + done.stderr, f"not printed: exit code {done.returncode}, {last_line(done)}"
        )
        report.check(bool(hub.requests) and hub.requests[0][1] == "Bearer hf_secret", "the hub receives it")
        report.check(
            bool(other.requests) and all(token is None for _, token in other.requests),
            f"the other server does not: {other.requests[:3]}",
        )
        files = [os.path.join(folder, name) for folder, _, names in os.walk(home) for name in names]
        report.check(not [path for path in files if b"hf_secret" in open(path, "rb").read()], "it is in no file")


def lying_hubs():
    modules = json.dumps([{"path": "../../../../tmp/embedd-escaped", "type": "x.Pooling"}]).encode()

    def endless(handler):
        handler.send_response(200)
        handler.send_header("connection", "close")
        handler.end_headers()
        for _ in range(300):
            handler.wfile.write(b" " * 1_000_000)

    def more_than_announced(handler):
        answer(handler, headers=[("etag", '"a"')], body=b"[]" + b" " * 200_000_000, length=2)

    def one_byte(handler):
        answer(handler, headers=[("etag", '"a"')], body=b" ", length=1_000_000)

    return {
        "endless modules.json": endless,
        "more than announced": more_than_announced,
        "less than announced": lambda handler: answer(handler, body=b"[]", length=1000),
        "one byte at each try": one_byte,
        "endless redirects": lambda handler: answer(handler, 302, [("location", handler.path + "x")]),
        "a redirect to a file": lambda handler: answer(handler, 302, [("location", "file:///etc/passwd")]),
        "a redirect without a target": lambda handler: answer(handler, 302),
        "a range that was not asked for": lambda handler: answer(
            handler, 206, [("content-range", "bytes 5-6/7")], b"[]"
        ),
        "modules outside the folder": lambda handler: answer(handler, body=modules),
        "nested modules": lambda handler: answer(handler, body=b"[" * 500_000),
        "an invalid commit": lambda handler: answer(
            handler, headers=[("x-repo-commit", "../../x")], body=b'[{"path":"","type":"t"}]'
        ),
        "Retry-After of years": lambda handler: answer(handler, 429, [("retry-after", "99999999999")]),
        "control characters in an error": lambda handler: answer(handler, 403, [("x-error-code", "GatedRepo\x1b[31m")]),
    }


@attack(
    "F03",
    "A hub that lies about lengths, ranges, names and redirects is an error within 100 s, and writes nothing outside.",
    own_server=True,
    slow=True,
)
def lying_hub(launcher, report):
    for what, respond in lying_hubs().items():
        with Hub(respond) as hub, tempfile.TemporaryDirectory() as home:
            started = time.monotonic()
            done = fetch(launcher, home, hub, timeout=100)
            megabytes = (
                sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(home) for name in names)
                / 1e6
            )
            ok = (
                done.returncode in FAILED
                and "panicked" not in done.stderr
                and megabytes < 100
                and "root:" not in done.stderr
                and "\x1b[31m" not in done.stderr
            )
            report.check(
                ok,
                f"{what}: exit code {done.returncode} after {time.monotonic() - started:.0f} s, {len(hub.requests)} requests, {megabytes:.0f} MB: {last_line(done)}",
            )
    report.check(not os.path.exists(ESCAPED), "nothing is written outside")


@attack(
    "F04",
    "Links at the names of locks and staging folders are not followed; what they point to stays as it is.",
    own_server=True,
)
def links_at_staging_names(launcher, report):
    with tempfile.TemporaryDirectory() as folder:
        victim = os.path.join(folder, "victim")
        precious = os.path.join(victim, "precious")
        os.mkdir(victim)
        source = os.path.join(folder, "source")
        os.mkdir(source)
        output = os.path.join(folder, "out")
        names = [
            ".out.lock",
            ".out.converting",
            ".out.replaced",
            ".out.tar.gz.lock",
            "out.tar.gz.part",
            ".out.tar.gz.part",
            ".out.tar.gz.tmp",
        ]
        for target in (precious, victim):
            with open(precious, "w", encoding="utf-8") as file:
                file.write("precious")
            for name in names:
                path = os.path.join(folder, name)
                if os.path.lexists(path):
                    os.unlink(path)
                os.symlink(target, path)
            done = [
                launcher.run("convert", "--offline", "--force", "--model", source, "--output", output, timeout=60),
                launcher.run(
                    "package", "--force", "--bundle", launcher.bundle, "--output", output + ".tar.gz", timeout=120
                ),
            ]
            kept = os.path.exists(precious) and open(precious, encoding="utf-8").read() == "precious"
            report.check(
                kept and os.listdir(victim) == ["precious"],
                f"links to {os.path.basename(target)}: {os.listdir(victim)}, kept: {kept}; exit codes {[each.returncode for each in done]}",
            )
        home = os.path.join(folder, "home")
        os.makedirs(os.path.join(home, "partial"))
        lock = os.path.join(home, "partial", "models--evil--model.lock")
        os.symlink(precious, lock)
        with Hub(lambda handler: answer(handler, 404)) as hub:
            fetch(launcher, home, hub)
        kept = open(precious, encoding="utf-8").read() == "precious"
        report.check(kept, f"a link as the lock of a download: kept {kept}")


@attack("F05", "A relative --onnxruntime is the file that was checked, not one beside the program.", own_server=True)
def relative_library(launcher, report):
    library, _ = cached_library()
    with tempfile.TemporaryDirectory() as folder:
        programs = os.path.join(folder, "bin")
        here = os.path.join(folder, "here")
        os.mkdir(programs)
        os.mkdir(here)
        program = os.path.join(programs, "embedd")
        shutil.copy(launcher.program, program)
        # Beside the program: a file that cannot be loaded. In the working directory: the library.
        with open(os.path.join(programs, "lib.so"), "wb") as file:
            file.write(b"\x7fELF" + bytes(100))
        shutil.copy(library, os.path.join(here, "lib.so"))
        for name in ("lib.so", "./lib.so"):
            with launcher.start(flags=["--onnxruntime", name], program=program, cwd=here) as server:
                report.check(
                    server.embed("a text")[1] == "OK", f"{name}: the library of the working directory is loaded"
                )


@attack(
    "F06",
    "A library in the cache folder with one changed byte is not loaded, nor is a link to another one.",
    own_server=True,
)
def changed_library(launcher, report):
    library, folder = cached_library()
    with tempfile.TemporaryDirectory() as home:
        copy = os.path.join(home, os.path.relpath(folder, home_of_this_user()))
        shutil.copytree(folder, copy)
        changed = os.path.join(copy, os.path.basename(library))
        with open(library, "rb") as file:
            data = bytearray(file.read())
        # In a string, so that the library still loads, and with the same size.
        data[data.find(b"onnxruntime")] ^= 0x20
        os.chmod(changed, 0o644)
        with open(changed, "wb") as file:
            file.write(data)
        done = launcher.run(
            "validate", "--bundle", launcher.bundle, "--offline", environment={"EMBEDD_HOME": home}, timeout=200
        )
        report.check(done.returncode in FAILED, f"exit code {done.returncode}: {last_line(done)}")


def tarball(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = data.decode()
            archive.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)
    return out.getvalue()


def evil_tarballs():
    regular = tarfile.REGTYPE
    huge = tarfile.TarInfo("manifest.json")
    huge.size = 1 << 60
    return {
        "a name outside": tarball([("../../../../tmp/embedd-escaped", regular, b"x")]),
        "an absolute name": tarball([(ESCAPED, regular, b"x")]),
        "a link, and a file through it": tarball(
            [("a", tarfile.SYMTYPE, b"/tmp"), ("a/embedd-escaped", regular, b"x")]
        ),
        "a hard link": tarball([("a", tarfile.LNKTYPE, b"/etc/passwd")]),
        "a device": tarball([("a", tarfile.CHRTYPE, b"")]),
        "a FIFO": tarball([("manifest.json", tarfile.FIFOTYPE, b"")]),
        "one name twice": tarball([("manifest.json", regular, b"{}"), ("manifest.json", regular, b"[]")]),
        "nothing": b"",
        "not gzip": b"x" * 1000,
        "cut short": tarball([("manifest.json", regular, b"{}" * 100_000)])[:100],
        "a bomb of 1 GB": gzip.compress(bytes(1_000_000_000), 1),
        "a size of 2^60": gzip.compress(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024)),
        "a broken header": gzip.compress(b"x" * 1024),
        "500,000 members": gzip.compress(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT) * 500_000 + bytes(1024), 1),
    }


@attack(
    "F07", "`embedd package --verify` rejects evil tarballs, follows no links, and writes nothing.", own_server=True
)
def tarballs(launcher, report):
    for what, data in evil_tarballs().items():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "evil.tar.gz")
            with open(path, "wb") as file:
                file.write(data)
            done = launcher.run("package", "--verify", path, cwd=folder, timeout=60, limits=lambda: limit_memory(2))
            ok = done.returncode in FAILED and os.listdir(folder) == ["evil.tar.gz"] and "panicked" not in done.stderr
            report.check(ok, f"{what}: exit code {done.returncode}: {last_line(done)}")
    report.check(not os.path.exists(ESCAPED), "nothing is written outside")


def limit_memory(gigabytes):
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))


@attack(
    "F08",
    "Four fetches at once into one cache folder succeed, and its folders are private.",
    own_server=True,
    slow=True,
)
def fetches_at_once(launcher, report):
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.join(folder, "home")
        codes = []
        threads = [
            threading.Thread(
                target=lambda: codes.append(
                    launcher.run("fetch", "--no-model", environment={"EMBEDD_HOME": home}, timeout=300).returncode
                )
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = [name for _, _, names in os.walk(home) for name in names if name.endswith((".part", ".tmp"))]
        report.check(codes == [0] * 4 and not left, f"exit codes {codes}, left over: {left}")
        open_folders = [path for path, _, _ in os.walk(home) if stat.S_IMODE(os.stat(path).st_mode) & 0o077]
        report.check(not open_folders, f"folders that others may read: {open_folders[:3]}")


@attack(
    "F09",
    "Broken checkpoints make `embedd convert` fail within a minute and 8 GB of address space, without a panic.",
    own_server=True,
)
def broken_checkpoints(launcher, report):
    body = bytes(64)
    one = {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}
    overflow = {"a": {**one["a"], "shape": [1 << 32, 1 << 32]}}
    hole = {"a": {**one["a"], "data_offsets": [4, 68]}}
    large = 1 << 31
    cases = {
        "empty weights": {"weights": b""},
        "a header of 2^64-1 bytes": {"weights": join_safetensors(one, body, (1 << 64) - 1)},
        "a header of 99 MB": {"weights": join_safetensors(b"{" + b" " * 99_000_000 + b"}", b"")},
        "a shape that overflows": {"weights": join_safetensors(overflow, body)},
        "tensors that overlap": {"weights": join_safetensors({**one, "b": one["a"]}, body)},
        "a hole between tensors": {"weights": join_safetensors(hole, body + bytes(4))},
        "no tensors": {"weights": join_safetensors({}, b"")},
        "zeros": {"weights": bytes(10_000)},
        "weights that are a link to /dev/zero": {"weights": "/dev/zero"},
        "weights that are a FIFO": {"weights": None},
        "2^31 layers": {"config": {"num_hidden_layers": large}},
        "no heads": {"config": {"num_attention_heads": 0}},
        "a hidden size of 2^31": {"config": {"hidden_size": large, "num_attention_heads": 1}},
        "a vocabulary of 2^31": {"config": {"vocab_size": large}},
        "a negative size": {"config": {"intermediate_size": -1}},
    }
    for what, changes in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            source = checkpoint(os.path.join(folder, "source"), **changes)
            output = os.path.join(folder, "out")
            started = time.monotonic()
            done = launcher.run(
                "convert",
                "--offline",
                "--model",
                source,
                "--output",
                output,
                timeout=60,
                limits=lambda: limit_memory(8),
            )
            ok = done.returncode in FAILED and "panicked" not in done.stderr and not os.path.exists(output)
            seconds = time.monotonic() - started
            report.check(ok, f"{what}: exit code {done.returncode} after {seconds:.1f} s: {last_line(done)}")


def checkpoint(folder, config=None, **changes):
    """A small model with these changes. Weights are bytes, the target of a link, or `None` for a FIFO."""
    shutil.copytree(os.path.join(ROOT, "tests", "fixtures", "models", "mpnet"), folder)
    if config:
        path = os.path.join(folder, "config.json")
        with open(path, encoding="utf-8") as file:
            original = json.load(file)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**original, **config}, file)
    if "weights" in changes:
        path = os.path.join(folder, "model.safetensors")
        os.unlink(path)
        weights = changes["weights"]
        if weights is None:
            os.mkfifo(path)
        elif isinstance(weights, str):
            os.symlink(weights, path)
        else:
            with open(path, "wb") as file:
                file.write(weights)
    return folder
