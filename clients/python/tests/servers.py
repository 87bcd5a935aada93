"""Starts servers for the tests."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = Path(os.environ.get("EMBEDD_BIN") or REPOSITORY / "target" / "release" / "embedd").resolve()
MODELS = REPOSITORY / "tests" / "fixtures" / "models"
#: Ends tests that hang. Not a performance requirement.
PATIENCE = 60.0


def onnxruntime() -> Path:
    """The ONNX Runtime of the user's cache folder, fetched if it is missing."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(os.environ.get("EMBEDD_HOME") or Path(cache, "embedd"))
    for _ in range(2):
        found = sorted(home.glob("onnxruntime/*/libonnxruntime.so.*"))
        if found:
            return found[-1]
        subprocess.run([PROGRAM, "fetch", "--no-model"], check=True, timeout=600, env=environment(home))
    raise FileNotFoundError(f"no ONNX Runtime in {home}")


def environment(home: Path) -> dict[str, str]:
    """The environment without settings of embedd, except the cache folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDD_")}
    return {**kept, "EMBEDD_HOME": str(home)}


class Server:
    """A running server, which is killed at the end."""

    def __init__(self, home: Path, model: str, *flags: str, listen: str = "127.0.0.1:0", ready: bool = True) -> None:
        command = [str(PROGRAM), "serve", "--model", str(MODELS / model), "--onnxruntime", str(onnxruntime())]
        command += ["--listen", listen, "--admin-listen", "off", "--http-listen", "off", "--log-format", "json"]
        self.process = subprocess.Popen(
            [*command, *flags], stderr=subprocess.PIPE, text=True, errors="replace", env=environment(home)
        )
        self.log: list[str] = []
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.address: str = self.wait_for("listening")["address"]
            if ready:
                self.wait_for("ready")
        except BaseException:
            self.kill()
            raise

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if line.startswith("{"):
                self._lines.put(json.loads(line))

    def wait_for(self, message: str) -> dict[str, Any]:
        """The next line of the log with this message."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                if self.process.poll() is not None:
                    break
                continue
            if line.get("message") == message:
                return line
        raise AssertionError(f"the server never logged `{message}`: {''.join(self.log[-20:])}")

    def stop(self) -> float:
        """Ends the server in an orderly way. Returns how many seconds that took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        return time.monotonic() - started

    def kill(self) -> None:
        """Ends the server at once."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr
        self.process.stderr.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
