"""Commands and servers that end: each has a time limit, and none outlives this process."""

import collections
import ctypes
import json
import os
import signal
import subprocess
import threading
import time

STOP_SECONDS = 20
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
# Other settings of the caller would change what is measured.
KEPT_SETTINGS = {"EMBEDD_HOME", "EMBEDD_PYTHON"}


class Failed(Exception):
    """A step failed; the message says why."""


class Clock:
    """The time that is left."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()

    def at_most(self, seconds):
        """Returns a time limit for a command."""
        limit = min(seconds, self.left())
        if limit < 1:
            raise Failed("no time left")
        return limit


def environment():
    return {
        name: value for name, value in os.environ.items() if not name.startswith("EMBEDD_") or name in KEPT_SETTINGS
    }


def dies_with_us():
    """Runs in the child: if this process is killed, the kernel ends the child as well."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start(command, **pipes):
    # A process group of its own, so that pip and other children can be ended together with the command.
    return subprocess.Popen(
        list(map(str, command)), env=environment(), start_new_session=True, preexec_fn=dies_with_us, text=True, **pipes
    )


def end(process, number):
    """Signals the process group that `start` created."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def last_lines(text, count=3):
    return " / ".join(line.strip() for line in text.strip().splitlines()[-count:])[-500:]


def attempt(command, seconds):
    """Runs a command; returns its exit code, its standard output, and an error if it failed or took too long."""
    name = " ".join(os.path.basename(str(word)) for word in command[:2])
    process = start(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, log = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process, signal.SIGKILL)
        output, _ = process.communicate()
        return process.returncode, output, f"{name} took longer than {seconds:.0f} s"
    finally:
        if process.poll() is None:
            end(process, signal.SIGKILL)
            process.wait()
    if process.returncode == 0:
        return 0, output, None
    return (
        process.returncode,
        output,
        f"{name} ended with {process.returncode}: {last_lines(log) or last_lines(output)}",
    )


def run(command, seconds, accepted=(0,)):
    """Returns the standard output of a command that must succeed, or end with another code that is accepted."""
    code, output, error = attempt(command, seconds)
    if error and code not in accepted:
        raise Failed(error)
    return output


class Server:
    """A server on loopback. Use it as a context manager, which ends it."""

    def __init__(self, command, seconds):
        self.address = None
        self.model = {}
        self.lines = collections.deque(maxlen=20)
        self.ready = threading.Event()
        started = time.monotonic()
        self.process = start(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        threading.Thread(target=self.read, daemon=True).start()
        try:
            if not self.ready.wait(seconds) or self.address is None:
                cause = "ended" if self.process.poll() is not None else f"was not ready after {seconds:.0f} s"
                raise Failed(f"the server {cause}: {last_lines(chr(10).join(self.lines))}")
        except BaseException:
            self.stop()
            raise
        self.ready_seconds = time.monotonic() - started

    def read(self):
        """Reads the log until the server ends; its end also sets `ready`, without an address."""
        for line in self.process.stderr:
            self.lines.append(line)
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("message") == "listening" and entry.get("server") == "gRPC":
                address = entry["address"]
            elif entry.get("message") == "model loaded":
                self.model = {
                    key: entry[key] for key in entry.keys() - {"timestamp", "level", "message", "target", "bundle"}
                }
            elif entry.get("message") == "ready":
                self.address = address
                self.ready.set()
        self.ready.set()

    def memory(self):
        """Returns the memory of the process in MiB."""
        try:
            with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
                facts = dict(line.split(":", 1) for line in file)
        except OSError:
            return {}
        return {name: int(facts[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM", "RssAnon") if name in facts}

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            end(self.process, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
