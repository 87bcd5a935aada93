"""Starts servers, and watches them from outside."""

import http.client
import json
import os
import re
import resource
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request

from attacks import messages, wire
from attacks.cgroup import MemoryCgroup
from attacks.suite import Skip

START_SECONDS = 120
# As long as the liveness probe of deploy/base waits.
PROBE_SECONDS = 5
LISTENERS = {"gRPC": "grpc", "admin gRPC": "admin", "HTTP": "http", "health": "health"}
ADMIN_TOKEN = "admin-token-of-the-attack-suite-0001"


class Launcher:
    """Starts servers with the program, bundle and memory limit of this run."""

    def __init__(self, program, bundle, memory_mib, admin_token=None):
        self.program = os.path.abspath(program)
        self.bundle = os.path.abspath(bundle)
        self.memory_mib = memory_mib
        self.admin_token = admin_token or ADMIN_TOKEN
        self.folder = tempfile.mkdtemp(prefix="embedd-attacks-")
        # Bundles that the attacks make. The server may be asked to load only what is in here.
        self.bundles = os.path.join(self.folder, "bundles")
        os.mkdir(self.bundles)
        self.help = subprocess.run([self.program, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        self._certificates = None

    def supports(self, flag):
        return re.search(rf"{re.escape(flag)}[ \[=\n]", self.help) is not None

    def optional(self, *flags):
        """Those flags (`--name=value`) that this program has: older ones lack the limits they set."""
        return [flag for flag in flags if self.supports(flag.split("=")[0])]

    def start(self, **launch):
        return Server(self, **launch)

    def run(self, *arguments, cwd=None, environment=None, timeout=120, limits=None):
        """Runs a command of the program, without the variables that would change what it does."""
        unwanted = ("EMBEDD_", "HF_", "ORT_")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(unwanted) and "PROXY" not in name.upper()
        }
        try:
            return subprocess.run(
                [self.program, *arguments],
                cwd=cwd,
                env={**kept, **(environment or {})},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                preexec_fn=limits,
            )
        except subprocess.TimeoutExpired as expired:
            output = [
                part.decode(errors="replace") if isinstance(part, bytes) else part or ""
                for part in (expired.stdout, expired.stderr)
            ]
            return subprocess.CompletedProcess(expired.cmd, "timeout", *output)

    def certificates(self):
        if not self._certificates:
            self._certificates = Certificates(os.path.join(self.folder, "certificates"))
        return self._certificates

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Certificates:
    """An authority, and the certificates of a server, a client, and a stranger who is an authority of its own."""

    def __init__(self, folder):
        if not shutil.which("openssl"):
            raise Skip("openssl is missing")
        self.folder = folder
        os.mkdir(folder)
        self._openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem")
        self._openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=client -keyout stranger.key -out stranger.pem"
        )
        for name in ("server", "client"):
            request = f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            self._openssl(f"{request} -addext subjectAltName=DNS:localhost,IP:127.0.0.1")
            sign = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem"
            self._openssl(f"{sign} -copy_extensions copy")

    def _openssl(self, arguments):
        subprocess.run(["openssl", *arguments.split()], cwd=self.folder, capture_output=True, check=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def client(self, name=None):
        """What a client needs, with the certificate of that name or with none."""
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        context.set_alpn_protocols(["h2"])
        if name:
            context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        return context


class Server:
    """A running server in a memory cgroup of its own, where one can be made."""

    def __init__(
        self,
        launcher,
        *,
        flags=(),
        tokens=(),
        tls=None,
        blocked_log=False,
        max_files=None,
        admin_token_file=True,
        program=None,
        cwd=None,
    ):
        """`tls` is `server` or `mutual`. With `blocked_log`, nobody reads what the server logs after its start."""
        self.launcher = launcher
        self.bundle = launcher.bundle
        self.folder = tempfile.mkdtemp(dir=launcher.folder)
        self.log_path = os.path.join(self.folder, "log")
        self.token_path = os.path.join(self.folder, "tokens")
        self.cgroup = MemoryCgroup.create(launcher.memory_mib << 20) if launcher.memory_mib else None
        self._files = max_files
        command = [program or launcher.program, "serve", "--bundle", self.bundle, "--log-format", "json"]
        for listener in ("--listen", "--admin-listen", "--http-listen", "--health-listen"):
            command += [listener, "127.0.0.1:0"]
        if tokens:
            self.write_tokens(tokens)
            command += ["--token-file", self.token_path]
        if admin_token_file:
            admin = self._write("admin-tokens", launcher.admin_token)
            command += ["--admin-token-file", admin]
        client_tls = None
        if tls:
            certificates = launcher.certificates()
            command += [
                "--tls-certificate",
                certificates.path("server.pem"),
                "--tls-key",
                certificates.path("server.key"),
            ]
            if tls == "mutual":
                command += ["--tls-client-ca", certificates.path("ca.pem")]
            else:
                command += ["--http-api", "on"]
            client_tls = certificates.client("client" if tls == "mutual" else None)
        log = subprocess.PIPE if blocked_log else open(self.log_path, "wb")
        self.process = subprocess.Popen(
            [*command, *flags], stdout=log, stderr=subprocess.STDOUT, cwd=cwd, preexec_fn=self._enter
        )
        self.pid = self.process.pid
        try:
            ports = self._ports(self.process.stdout if blocked_log else open(self.log_path, "rb"))
        except Exception:
            self.stop()
            raise
        # A quota may follow a token.
        token = tokens[0].split()[0] if tokens else ""
        self.grpc = wire.Endpoint("127.0.0.1", ports["grpc"], token, client_tls)
        self.admin = wire.Endpoint("127.0.0.1", ports["admin"], launcher.admin_token if admin_token_file else "")
        self.http = wire.Endpoint("127.0.0.1", ports["http"], token)
        self.health = wire.Endpoint("127.0.0.1", ports["health"])
        try:
            self._wait_ready()
        except Exception:
            self.stop()
            raise
        self.model = messages.parse(self.call(messages.GET_MODEL).messages[0])[1][0].decode()

    def _enter(self):
        if self._files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._files, self._files))
        if self.cgroup:
            self.cgroup.enter()

    def _write(self, name, text):
        path = os.path.join(self.folder, name)
        # Replaced as a whole: the server reads it every second.
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.chmod(path + ".new", 0o600)
        os.replace(path + ".new", path)
        return path

    def write_tokens(self, tokens):
        self._write("tokens", "\n".join(tokens))

    def _ports(self, log):
        """The ports, from the log lines of the listeners."""
        ports = {}
        deadline = time.monotonic() + START_SECONDS
        text = ""
        while set(ports) != set(LISTENERS.values()):
            line = log.readline().decode(errors="replace")
            if not line:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start: {text[-2000:]}")
                time.sleep(0.02)
                continue
            text += line
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("message") == "listening":
                kind = "health" if "health" in entry["server"] else LISTENERS.get(entry["server"])
                ports[kind] = int(entry["address"].rsplit(":", 1)[1])
        return ports

    def _wait_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.alive:
            if self.probe(self.health) is not None:
                return
            time.sleep(0.1)
        raise RuntimeError(f"the server is not ready: {self.death or 'NOT_SERVING'}")

    # What callers see.

    def call(self, path, message=b"", wait=30, **headers):
        return wire.call(self.grpc, path, message, wait=wait, **headers)

    def admin_call(self, path, message=b"", wait=60):
        return wire.call(self.admin, path, message, wait=wait)

    def embed(self, text, wait=60, **options):
        """The embedding of one text, and the status; the embedding is `None` unless the status is OK."""
        try:
            reply = self.call(
                messages.EMBED, messages.embed([text], encoding=messages.ENCODING_BYTES, **options), wait=wait
            )
        except OSError as error:
            return None, repr(error)
        if reply.code != "OK":
            return None, reply.code
        return messages.embeddings(reply.messages[0])[0], "OK"

    def probe(self, endpoint=None, timeout=PROBE_SECONDS):
        """Seconds of a health check on a new connection, as a kubelet makes it; `None` if it failed."""
        started = time.monotonic()
        try:
            reply = wire.call(endpoint or self.health, messages.HEALTH, wait=timeout, token="")
        except OSError:
            return None
        serving = reply.code == "OK" and reply.messages and messages.parse(reply.messages[0])[1] == [1]
        return time.monotonic() - started if serving else None

    def openai(self, body, timeout=60, **headers):
        """The HTTP status of a request for embeddings."""
        return self.post("/v1/embeddings", body, timeout, **headers)

    def post(self, path, body, timeout=60, **headers):
        """The HTTP status of a request with a JSON body."""
        headers = {"content-type": "application/json", **headers}
        if self.http.token:
            headers["authorization"] = f"Bearer {self.http.token}"
        connection = http.client.HTTPConnection(*self.http.address, timeout=timeout)
        try:
            try:
                connection.request("POST", path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The server has answered before it read everything.
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def get(self, path, timeout=10):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http.port}{path}", timeout=timeout) as response:
            return response.read().decode()

    def metric(self, name):
        """The sum of a metric over its labels."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def check_well(self, report):
        """What must hold after every attack."""
        alive = self.alive
        report.check(alive, "the server is alive" if alive else f"the server is dead: {self.death}")
        if not alive:
            return
        report.check(self.probe() is not None, "it answers health probes")
        embedding, code = self.embed(f"a new text, {time.time_ns()}")
        report.check(embedding is not None, f"it embeds another caller's text: {code}")

    # What the operating system knows.

    @property
    def alive(self):
        return self.process.poll() is None

    @property
    def death(self):
        code = self.process.poll()
        if code == -signal.SIGKILL:
            return "killed, as it used more memory than its cgroup allows"
        return None if code is None else f"exit code {code}"

    def memory_mib(self):
        """Resident memory, and its peak since `reset_peak`."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        if "VmRSS" not in fields:  # It has just died.
            raise ProcessLookupError(self.pid)
        return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024

    def reset_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def cpu_seconds(self):
        """CPU time of all threads. It does not depend on what else runs on this machine."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def log_lines(self):
        return self.log().count("\n")

    def stop(self):
        if self.alive:
            self.process.kill()
        self.process.wait()
        if self.cgroup:
            self.cgroup.remove()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class MemoryWatch:
    """How far the server's resident memory grows while an attack runs."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.server.reset_peak()
        self.before = self.server.memory_mib()[0]
        return self

    def __exit__(self, *_):
        pass

    @property
    def grown(self):
        """MiB; infinite if the server is dead."""
        try:
            return self.server.memory_mib()[1] - self.before
        except (OSError, KeyError):
            return float("inf")


class HealthWatch:
    """Probes health every half second while an attack runs."""

    def __init__(self, server, endpoint=None, every=0.5):
        self.server = server
        self.endpoint = endpoint or server.health
        self.every = every
        self.times = []
        self.missed = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._probe, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _probe(self):
        while not self._end.is_set():
            took = self.server.probe(self.endpoint)
            if took is None:
                self.missed += 1
            else:
                self.times.append(took)
            self._end.wait(self.every)

    def check(self, report):
        self.__exit__()
        worst = max(self.times, default=float("inf"))
        report.check(
            self.missed == 0, f"{len(self.times)} health probes answered, {self.missed} missed, slowest {worst:.2f} s"
        )


def together(functions, timeout=300):
    """Runs the functions at the same time, and raises what they raise."""
    errors = []

    def run(function):
        try:
            function()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError("an attacker did not finish")
    if errors:
        raise errors[0]
